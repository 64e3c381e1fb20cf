"""What the demo's third part found: effects of each key by the ledger, beside what the callers were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from resilient_rpc.cli.demo_keys import KeysSide
from resilient_rpc.cli.demo_ledger import Entry
from resilient_rpc.cli.demo_report import new_table, verdict
from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, Certainty


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of the keys of one side."""

    name: str
    keys: int
    calls: int
    answered: int
    effects: Counter[int]
    """How many keys had so many effects."""
    differing: int
    """Keys to which different answers were given."""
    in_window: int
    """Keys whose server was killed between an effect and its record, so that it was done again."""
    untrue: int
    """Keys of which the callers were told something that is not so."""
    errors: Counter[Certainty]
    deaths: int
    interrupted: int
    """Executions that were ended in the middle."""

    @property
    def often(self) -> int:
        """Keys with more than one effect."""
        return sum(count for effects, count in self.effects.items() if effects > 1)

    @property
    def right(self) -> bool:
        """Whether each key took effect once, with one answer, and all that was said of it is true."""
        return self.answered > 0 and self.often == self.in_window and not self.differing and not self.untrue


def examine(side: KeysSide) -> Found:
    """Compare what was said with what was done."""
    charges, killed = side.ledger.charges(), set(side.fleet.killed)
    calls = [said for key in side.said.values() for said in key]
    answers = {key: {said.receipt for said in made if said.receipt} for key, made in side.said.items()}
    done = {key: charges.get(key, []) for key in side.said}
    return Found(
        name=side.name,
        keys=len(side.said),
        calls=len(calls),
        answered=sum(said.receipt is not None for said in calls),
        effects=Counter(len(entries) for entries in done.values()),
        differing=sum(len(given) > 1 for given in answers.values()),
        in_window=sum(_in_window(entries, answers[key], killed) for key, entries in done.items()),
        untrue=sum(_untrue(side, key, entries, answers[key]) for key, entries in done.items()),
        errors=Counter(said.certainty for said in calls if said.certainty is not None),
        deaths=len(killed),
        interrupted=side.ledger.unfinished(),
    )


def _in_window(entries: Sequence[Entry], answers: set[str], killed: set[int]) -> bool:
    """Whether all but the last effect are of servers that were killed before anybody was told."""
    earlier = entries[:-1]
    tokens = [entry.token for entry in entries]
    return (
        bool(earlier)
        and all(entry.pid in killed and entry.receipt not in answers for entry in earlier)
        and tokens == sorted(set(tokens))
    )


def _untrue(side: KeysSide, key: str, entries: Sequence[Entry], answers: set[str]) -> bool:
    """Whether an answer was given that no execution gave, or one was denied or claimed that was not, or was."""
    told = {said.certainty for said in side.said[key]}
    invented = not answers <= {entry.receipt for entry in entries}
    return invented or (told == {NOT_EXECUTED} and bool(entries)) or (EXECUTED in told and not entries)


def report_keys(console: Console, sides: Sequence[KeysSide]) -> bool:
    """Print all; True if the side with keys did what is promised."""
    keyed, unkeyed = found = [examine(side) for side in sides]
    table = new_table("One effect per key", "", *(each.name for each in found))
    for title, numbers in (
        ("keys", [each.keys for each in found]),
        ("calls", [each.calls for each in found]),
        ("  answered", [each.answered for each in found]),
        ("  errors: not executed", [each.errors[NOT_EXECUTED] for each in found]),
        ("  errors: nobody knows", [each.errors[UNKNOWN] for each in found]),
        ("  errors: executed", [each.errors[EXECUTED] for each in found]),
        ("servers killed with SIGKILL", [each.deaths for each in found]),
        ("  executions that ended with them", [each.interrupted for each in found]),
    ):
        table.add_row(title, *(f"{number:,}" for number in numbers))
    table.add_section()
    for title, numbers, wanted in (
        ("keys that took effect once, by the ledger", [each.effects[1] for each in found], True),
        ("  more than once", [each.often for each in found], False),
        ("  never", [each.effects[0] for each in found], False),
        ("keys with different answers", [each.differing for each in found], False),
    ):
        table.add_row(title, *(_marked(number, wanted=wanted) for number in numbers))
    console.print()
    console.print(table)
    console.print()
    return verdict(console, keyed.right, _verdict(keyed, unkeyed))


def _marked(number: int, *, wanted: bool) -> str:
    return f"{number:,}" if wanted or not number else f"[bold red]{number:,}[/]"


def _verdict(keyed: Found, unkeyed: Found) -> str:
    text = f"with keys, {keyed.effects[1]:,} of {keyed.keys:,} took effect once"
    if keyed.often:
        text += f", {keyed.often:,} more than once"
    if keyed.in_window:
        text += f" ({keyed.in_window:,} of them: the server died between the effect and its record)"
    if keyed.differing or keyed.untrue:
        text += f", {keyed.differing:,} had different answers, {keyed.untrue:,} wrong ones"
    return f"{text}; without, {unkeyed.often:,} of {unkeyed.keys:,} more than once"
