"""Instructions of this package, by file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import resilient_rpc

PACKAGE = str(Path(resilient_rpc.__file__).parent)
NOT_OURS_TO_COUNT = ("transport/memory/", "testing/")
"""The bus stands in for the broker, and costs a user nothing."""


@contextmanager
def counted(counts: Counter[str]) -> Iterator[None]:
    """Count what runs in this thread meanwhile."""
    names: dict[str, str | None] = {}

    def name_of(file: str) -> str | None:
        if file not in names:
            inside = file.startswith(PACKAGE)
            short = file[len(PACKAGE) + 1 :]
            names[file] = short if inside and not short.startswith(NOT_OURS_TO_COUNT) else None
        return names[file]

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
