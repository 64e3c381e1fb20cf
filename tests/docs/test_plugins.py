"""The pages of the plug-ins: what they show works."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilient_rpc_opentelemetry import ClientTracing, ServerTracing
from resilient_rpc_signing import Signing
from tests.docs.blocks import ROOT, blocks_of

READMES = sorted(ROOT.glob("plugins/*/README.md"))


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
def test_the_examples_of_a_package_run(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page, "python")
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block.body],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block.where}: {done.stderr}"


def test_every_plug_in_has_a_page() -> None:
    assert [page.parent.name for page in READMES] == ["opentelemetry", "prometheus", "signing"]


@pytest.mark.parametrize(
    ("page", "kind"), [("signing", Signing), ("opentelemetry", ClientTracing), ("opentelemetry", ServerTracing)]
)
def test_every_setting_of_a_package_is_documented_with_its_default(page: str, kind: type[Any]) -> None:
    text = (ROOT / "plugins" / page / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    documented = {name: row[1] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    settings = [field for field in dataclasses.fields(kind) if field.init]
    assert settings
    for setting in settings:
        assert setting.name in documented, setting.name
        default = setting.default
        if default is dataclasses.MISSING:
            continue
        shown = "time.time" if inspect.isbuiltin(default) else repr(default).replace("'", '"')
        assert documented[setting.name] == f"`{shown}`"
