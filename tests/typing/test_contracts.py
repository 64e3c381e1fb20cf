"""Typed services under the type checkers that users have."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"
ROOT = Path(__file__).parents[2]
GOOD, BAD = SAMPLES / "good.py", SAMPLES / "bad.py"
WRONG = [number for number, line in enumerate(BAD.read_text().splitlines(), 1) if line.endswith("# WRONG")]


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


def by_mypy(path: Path, cache: Path) -> dict[int, str]:
    """Line and finding."""
    said = run("mypy", "--strict", "--output=json", f"--cache-dir={cache}", "--config-file=", str(path))
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return {each["line"]: each["message"] for each in found if Path(each["file"]).name == path.name}


def by_pyright(path: Path, folder: Path) -> dict[int, str]:
    """Line and finding. `basedpyright` brings all it needs from the package index; its strict mode is pyright's."""
    if importlib.util.find_spec("basedpyright") is None and "CI" not in os.environ:
        pytest.skip("basedpyright is not installed here; in CI that is an error")
    project = folder / "pyrightconfig.json"
    settings = {
        "include": [str(path)],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
    }
    project.write_text(json.dumps(settings))
    said = json.loads(run("basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(project)))
    assert said["summary"]["filesAnalyzed"] == 1
    found = [each for each in said["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1: each["message"] for each in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of both tests: what mypy has learnt of the packages in the first one it need not learn again."""
    return tmp_path_factory.mktemp("types")


@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_a_contract_is_accepted_with_all_its_uses(checker: type, folder: Path) -> None:
    assert checker(GOOD, folder) == {}


@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_mistakes_are_found_and_nothing_else(checker: type, folder: Path) -> None:
    assert WRONG
    assert sorted(checker(BAD, folder)) == WRONG
