"""The built site: complete, and at home in a folder without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.test_reference import SHOWN


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it, where a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_name_of_the_reference_can_be_linked_to(site: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    anchors = set(re.findall(r'id="([\w.]+)"', pages))
    assert set(SHOWN) <= anchors
    inherited = {f"resilient_rpc.Client.{name}" for name in ("call", "service", "on", "stats", "reload")}
    assert inherited <= anchors


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_it_loads_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?([^\"' >]+)", text)
        loaded += re.findall(r"<link\b[^>]*\brel=[\"']?(?:stylesheet|icon|preload)[^>]*\bhref=[\"']?([^\"' >]+)", text)
        assert loaded
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == [], page


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_its_search_works_from_a_folder(site: Path) -> None:
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = {")
    scripts = re.findall(r'<script src="([^"]+)"', (site / "index.html").read_text(encoding="utf-8"))
    assert "assets/iframe-worker.js" in scripts  # before the theme's own, which asks for a Worker
    assert scripts.index("assets/iframe-worker.js") < len(scripts) - 1
