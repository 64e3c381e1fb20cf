"""Imports run one way (the rule stands in `LAYERS`), never in a circle, and nothing reads code from data."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import resilient_rpc

ROOT = Path(resilient_rpc.__file__).parent
PACKAGE = ROOT.name

LAYERS = [
    {"call", "errors", "pending", "forking"},
    {"policy"},
    {"chain", "events", "histogram", "hub", "ioloop", "loops", "registry", "runtime", "stats", "watchdog"},
    {"policies", "stores", "wire"},
    {"transport"},
    {"asking", "asyncclient", "binder", "caller", "client", "contract", "registering", "server", "serving"},
    {"cli", "testing"},
]
"""A module imports from its own layer and those before it. One that stands in none may stand between any two."""

FORBIDDEN_IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "code", "codeop"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def _name(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def _layer(module: str) -> int | None:
    top = module.split(".")[1] if "." in module else ""
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


def _walk(node: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    """All nodes but those that are for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if not inside_functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _walk(child, inside_functions=inside_functions)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in FILES else node.module or ""


@cache
def _imports(module: str, *, inside_functions: bool = True) -> frozenset[str]:
    nodes = _walk(_tree(module), inside_functions=inside_functions)
    return frozenset(name for node in nodes for name in _imported(node) if name in FILES and name != module)


def _reach(module: str) -> dict[str, list[str]]:
    """Every module that `module` imports through modules without a layer, with the way to it."""
    found: dict[str, list[str]] = {}
    ways = [[module]]
    while ways:
        way = ways.pop()
        for name in _imports(way[-1]):
            if name not in found:
                found[name] = [*way, name]
                if _layer(name) is None:
                    ways.append(found[name])
    return found


@pytest.mark.parametrize("module", [name for name in FILES if _layer(name) is not None])
def test_imports_only_from_its_layer_and_below(module: str) -> None:
    mine = _layer(module)
    assert mine is not None
    for name, way in _reach(module).items():
        layer = _layer(name)
        assert layer is None or layer <= mine, f"{' imports '.join(way)}, which stands in a higher layer"
        assert name != PACKAGE or mine == len(LAYERS) - 1, f"{module} imports the public names, which import everything"


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: _imports(module, inside_functions=False) for module in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_nothing_imports_what_is_for_tests() -> None:
    for module in FILES:
        if not module.startswith(f"{PACKAGE}.testing"):
            assert not [name for name in _imports(module) if name.startswith(f"{PACKAGE}.testing")], module


@pytest.mark.parametrize("module", FILES)
def test_reads_no_code_from_data(module: str) -> None:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            roots = {name.split(".")[0] for name in _imported(node)}
            assert not roots & FORBIDDEN_IMPORTS, f"line {node.lineno}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"line {node.lineno}: {node.func.id}()"


def test_the_rule_sees_what_it_is_for() -> None:
    assert len(FILES) > 20
    assert _imports(f"{PACKAGE}.runtime") >= {f"{PACKAGE}.pending", f"{PACKAGE}.loops", f"{PACKAGE}.forking"}
    assert f"{PACKAGE}.policy" not in _imports(f"{PACKAGE}.call"), "an import for type checkers counts"
