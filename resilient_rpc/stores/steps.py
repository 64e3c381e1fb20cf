"""A step on its way to Redis: what is asked for it, who waits for it, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resilient_rpc.parking import Outcome
from resilient_rpc.stores.base import Busy, Mismatch, New, OnTakeover, Progress, Record, Replay, TakenOver, Unknown
from resilient_rpc.stores.errors import CorruptRecord, StoreError
from resilient_rpc.stores.faults import fault_of
from resilient_rpc.stores.scripts import DIGEST, SCRIPT

PROGRESS: Mapping[bytes, Progress] = {b"I": "running", b"T": "taken_over", b"A": "abandoned", b"D": "ok", b"E": "error"}

Argument = bytes | str | int


class Step:
    """One step on its way: what to ask, and who waits for the answer."""

    __slots__ = ("arguments", "future", "key", "lost", "owner", "result", "sent", "size", "slot", "until")

    def __init__(self, key: bytes, arguments: tuple[Argument, ...], *, owner: bytes = b"", payload: int = 0) -> None:
        self.key = key
        self.arguments = arguments
        self.owner = owner
        """Of a `begin`: by this it is known when it is repeated."""
        self.size = len(key) + payload + 100
        """Bytes, about."""
        self.slot = 0
        """On a cluster."""
        self.sent = False
        """It is on its way, or was: without an answer nobody knows what it did."""
        self.lost = False
        """It was sent on a connection that was lost, and was or will be sent again."""
        self.result: Any = None
        """The outcome, once there is one."""
        self.until = 0.0
        """The loop's time at which it is given up."""
        self.future: Outcome

    def settle(self, answer: Any) -> str:
        """Hand out what the script answered; what went wrong in a word, if it did."""
        try:
            self.result = read_answer(answer)
        except StoreError as error:
            self.fail(error)
            return error.reason
        self.future.settle(self.result)
        return ""

    def fail(self, error: StoreError) -> None:
        """Hand out an error, unless there is an answer already."""
        self.result = error
        if self.lost:
            error.written = None
        self.future.settle(None, error)


def begin(key: bytes, *, fingerprint: bytes, lease: int, ttl: int, on_takeover: OnTakeover, owner: bytes) -> Step:
    """`Store.begin`; times are milliseconds."""
    rerun = 1 if on_takeover == "rerun" else 0
    return Step(key, (b"b", fingerprint, lease, ttl, rerun, owner), owner=owner)


def renew(key: bytes, epoch: int, *, lease: int) -> Step:
    """`Store.renew`."""
    return Step(key, (b"r", epoch, lease))


def complete(key: bytes, epoch: int, payload: bytes, *, ok: bool, ttl: int) -> Step:
    """`Store.complete`."""
    return Step(key, (b"c", epoch, b"D" if ok else b"E", ttl, payload), payload=len(payload))


def abandon(key: bytes, epoch: int) -> Step:
    """`Store.abandon`."""
    return Step(key, (b"a", epoch))


def disown(key: bytes, owner: bytes) -> Step:
    """Abandon what a `begin` may have been given that nobody heard the answer of."""
    return Step(key, (b"o", owner))


def get(key: bytes) -> Step:
    """`Store.get`."""
    return Step(key, (b"g",))


def delete(key: bytes) -> Step:
    """`Store.delete`."""
    return Step(key, (b"x",))


def command(steps: Sequence[Step], number: bytes, *, whole: bool) -> list[Argument]:
    """What to send for these steps; `whole`: with the text of the script, for a Redis that does not know it."""
    words: list[Argument] = ["EVAL", SCRIPT] if whole else ["EVALSHA", DIGEST]
    words.append(len(steps))
    words += [step.key for step in steps]
    words.append(number)
    for step in steps:
        words += step.arguments
    return words


def read_answer(answer: Any) -> Any:
    """The outcome of a step; raises what the script found wrong."""
    if type(answer) is int and answer in {0, 1}:  # these two are nearly all there are
        return answer == 1
    if type(answer) is list and len(answer) == 2 and answer[0] == b"I" and type(answer[1]) is int:  # noqa: PLR2004
        return New(answer[1])
    match answer:
        case [b"T", int(epoch)]:
            return TakenOver(epoch)
        case [b"D" | b"E" as state, bytes(payload)]:
            return Replay(payload, state == b"D")
        case [b"B", int(left)]:
            return Busy(left / 1000)
        case [b"M"]:
            return Mismatch()
        case [b"U"]:
            return Unknown()
        case [b"G"]:
            return None
        case [b"G", bytes(state), int(epoch), bytes(fingerprint), int(left), bytes(payload)]:
            done = state in {b"D", b"E"}
            return Record(PROGRESS[state], epoch, fingerprint, left / 1000, payload if done else None)
        case [b"C", bytes(why)]:
            raise CorruptRecord(f"what stands under the key is no record: {why.decode()}", written=False)
        case [b"F", bytes(text)]:
            raise fault_of(text.decode(errors="replace"))
    raise StoreError(f"Redis answered what is no answer of a step: {answer!r:.80}")
