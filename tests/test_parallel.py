"""What lets tests run side by side keeps its word."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from tests.parallel import Room, _sendable
from tests.waiting import PATIENCE, until


def test_a_test_that_is_to_be_alone_waits_for_the_others_and_lets_nobody_in_meanwhile(tmp_path: Path) -> None:
    files = tmp_path / "door", tmp_path / "inside"
    for file in files:
        file.touch()
    inside: list[str] = []
    leave = {name: threading.Event() for name in ("one", "two", "alone", "late")}

    def enter(name: str) -> None:
        room = Room(*files)  # as if in another process
        with contextlib.closing(room), room.entered(alone=name == "alone"):
            inside.append(name)
            leave[name].wait(PATIENCE)
            inside.remove(name)

    threads = {name: threading.Thread(target=enter, args=[name]) for name in leave}
    threads["one"].start()
    threads["two"].start()
    until(lambda: sorted(inside) == ["one", "two"])
    threads["alone"].start()
    threads["late"].start()
    leave["one"].set()
    threads["one"].join()
    assert "alone" not in inside
    leave["late"].set()
    leave["two"].set()
    until(lambda: "alone" in inside)
    assert inside == ["alone"]
    leave["alone"].set()
    for thread in threads.values():
        thread.join(PATIENCE)
    assert inside == []


def test_a_report_can_be_sent_whatever_a_test_has_printed() -> None:
    report = {"sections": [("Captured stdout", "\ud800 ä")], "when": "call", "duration": 0.5, "\udfff": None}
    sent = _sendable(report)
    assert sent == {"sections": [["Captured stdout", "\\ud800 ä"]], "when": "call", "duration": 0.5, "\\udfff": None}
    str(sent).encode()
