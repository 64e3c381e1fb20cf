"""What users import. A name that goes is a breaking change: this list is changed on purpose, with the changelog."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import resilient_rpc
from resilient_rpc import policies, replies, stores, testing
from resilient_rpc.events import PolicyEvent

NAMES = [
    "Admission", "ApplicationError", "AsyncClient", "Batching", "BrokerBlocked", "Call", "Certainty", "Classic",
    "Client", "Compression", "ConfigurationError", "ConnectionLost", "Context", "Contract", "DeadlineExceeded",
    "Filter", "FilterRefused", "Handler", "InvalidParams", "Limits", "Message", "MethodNotFound", "NoServer",
    "NotConnected", "Overloaded", "Policy", "ProtocolError", "Quorum", "Refused", "Rejected", "RemoteError", "Reply",
    "RpcError", "Runtime", "Safety", "Server", "ServerLost", "Unroutable", "current_context", "log_events", "method",
    "remote",
]  # fmt: skip
PACKAGE = Path(resilient_rpc.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py"))


TESTING = [
    "Bench", "PolicyReport", "ScriptedPeer", "StoreReport", "VirtualClock", "VirtualDeadlock", "answer", "check_policy",
    "check_store", "drop", "fail", "hang",
]  # fmt: skip
STORES = [
    "Began", "Busy", "CorruptRecord", "EncryptedStore", "Held", "LockBusy", "MemoryStore", "Mismatch", "New",
    "OnTakeover", "Record", "RecordKey", "RecordLost", "RedisLock", "RedisStore", "Replay", "SqlStore", "Store",
    "StoreError", "StoreRefused", "StoreUnavailable", "TakenOver", "Unknown",
]  # fmt: skip


REPLIES = ["Direct", "Exclusive", "Named", "PerCall", "Pool"]


def test_the_public_names_are_these() -> None:
    assert resilient_rpc.__all__ == NAMES
    assert sorted(NAMES) == NAMES
    assert testing.__all__ == TESTING
    assert sorted(TESTING) == TESTING
    assert replies.__all__ == REPLIES
    assert stores.__all__ == STORES
    assert sorted(STORES) == STORES


def test_every_event_of_a_policy_can_be_imported_with_the_policies() -> None:
    modules = [module.removesuffix(".py").replace("/", ".") for module in MODULES if "/policies/" in module]
    found = [kind for name in modules for kind in vars(importlib.import_module(name)).values() if inspect.isclass(kind)]
    events = {kind.__name__ for kind in found if issubclass(kind, PolicyEvent) and "policies" in kind.__module__}
    assert {"FallbackUsed", "ChaosInjected", "CacheUsed"} <= events <= set(policies.__all__)


@pytest.mark.parametrize("name", TESTING)
def test_each_for_tests_is_there_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(testing, name))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(resilient_rpc, name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert inspect.getdoc(found)


def test_nothing_else_is_public() -> None:
    extra = {name for name in vars(resilient_rpc) if not name.startswith("_")} - set(NAMES)
    assert all(inspect.ismodule(getattr(resilient_rpc, name)) or name == "annotations" for name in extra), extra


@pytest.mark.parametrize("name", ["Client", "AsyncClient", "Server"])
def test_the_methods_of_the_faces_are_documented(name: str) -> None:
    for method, found in inspect.getmembers(getattr(resilient_rpc, name), inspect.isfunction):
        assert method.startswith("_") or inspect.getdoc(found), method


def test_both_clients_have_the_same_methods() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}

    assert surface(resilient_rpc.Client) == surface(resilient_rpc.AsyncClient)
    for name in ("call", "request", "submit", "map"):
        first = inspect.signature(getattr(resilient_rpc.Client, name))
        second = inspect.signature(getattr(resilient_rpc.AsyncClient, name))
        assert list(first.parameters.values()) == list(second.parameters.values())


@pytest.mark.parametrize("path", MODULES)
def test_no_module_can_be_made_to_run_what_a_message_brings(path: str) -> None:
    tree = ast.parse((PACKAGE.parent / path).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [node.func.id] if node.func.id in {"eval", "exec", "compile"} else []
        else:
            continue
        assert not {name.partition(".")[0] for name in names} & {
            "pickle",
            "marshal",
            "shelve",
            "yaml",
            "dill",
            "eval",
            "exec",
            "compile",
        }


def test_importing_it_starts_nothing_and_needs_no_broker_library() -> None:
    code = (
        "import sys, threading, resilient_rpc; "
        "assert threading.active_count() == 1; "
        "resilient_rpc.Client('memory://x'); "
        "assert threading.active_count() == 1; "
        "assert not {'pika', 'redis', 'uvloop'} & set(sys.modules), set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=PACKAGE.parent
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [path for path in MODULES if "/cli/" not in path and "__main__" not in path])
def test_every_module_can_be_imported_alone(path: str) -> None:
    importlib.import_module(path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
