"""Instructions of this package, by file."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import resilient_rpc

PACKAGE = str(Path(resilient_rpc.__file__).parent)
NOT_OURS_TO_COUNT = ("transport/memory/", "testing/")
"""The bus stands in for the broker, and costs a user nothing."""
Naming = Callable[[str], str | None]


def _naming() -> Naming:
    """The name under which what a file does is counted; None: it is not."""
    names: dict[str, str | None] = {}

    def name_of(file: str) -> str | None:
        if file not in names:
            inside = file.startswith(PACKAGE)
            short = file[len(PACKAGE) + 1 :]
            names[file] = short if inside and not short.startswith(NOT_OURS_TO_COUNT) else None
        return names[file]

    return name_of


@contextmanager
def _traced(counts: Counter[str]) -> Iterator[None]:
    name_of = _naming()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        name = name_of(frame.f_code.co_filename)
        if name is None:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def step(_: FrameType, event: str, __: Any) -> Any:
            if event == "opcode":
                counts[name] += 1
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _monitored(counts: Counter[str]) -> Iterator[None]:
    name_of, thread = _naming(), threading.get_ident()
    monitoring: Any = vars(sys)["monitoring"]
    tool = next(number for number in (3, 4) if monitoring.get_tool(number) is None)  # those that Python gives no name
    instruction = monitoring.events.INSTRUCTION

    def step(code: CodeType, _: int) -> Any:
        name = name_of(code.co_filename)
        if name is None:
            return monitoring.DISABLE
        if threading.get_ident() == thread:
            counts[name] += 1
        return None

    monitoring.use_tool_id(tool, __name__)
    monitoring.register_callback(tool, instruction, step)
    monitoring.set_events(tool, instruction)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, instruction, None)
        monitoring.free_tool_id(tool)


def counted(counts: Counter[str]) -> AbstractContextManager[None]:
    """Count what runs in this thread meanwhile.

    From Python 3.12 on `sys.settrace` sees no instruction of a function that no trace asked for before.
    """
    return _monitored(counts) if sys.version_info >= (3, 12) else _traced(counts)
