"""What was done against what was said: pure, from lines of the ledger, answers and strikes.

An effect that was done twice for a key is *explained* only if Redis has never confirmed a record of the one with the
smaller fencing token, and there is a cause for that:

- `injected`, `killed`: its server was killed, by a crash point or by the storm;
- `frozen`: its server was stopped for longer than its lease;
- `store`: Redis, or the link to it, was struck while the record or a renewal of the lease was due.

That is the window. Everything else that was done twice is counted as duplicated: two effects with one token, or one
more after a record. An effect that comes after one with a larger token is `fenced`: whoever checks tokens refuses it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from resilient_rpc.errors import EXECUTED, NOT_EXECUTED
from tests.faults.soak.callers import Said
from tests.faults.soak.ledger import Line
from tests.faults.soak.strikes import Strike

LATE = 1.0
"""Seconds after its deadline by which a call must have ended."""
KILLS = {"server-crash": "injected", "server-kill": "killed"}
STORE = frozenset({"redis-kill", "redis-freeze", "redis-cut", "redis-hang", "redis-lose"})


@dataclass(kw_only=True)
class Evidence:
    """All that is known of a run."""

    lines: Sequence[Line]
    said: Sequence[Said]
    strikes: Sequence[Strike]
    republished: Collection[str] = ()
    """Keys that somebody called who did not note it."""
    strangers: Collection[str] = ()
    """Keys of calls that nobody noted, and that may take effect."""
    repeatable: Collection[str] = ()
    """Keys of calls that may be executed more than once: of methods that say so."""
    unmarked: bool = False
    """After it was stopped in good order, this RabbitMQ says of no message of a classic queue that it comes again."""
    lease: float = 2.0


@dataclass(kw_only=True)
class Account:
    """Lists hold keys, or what there is to say."""

    calls: int = 0
    acknowledged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    replayed: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged, and the effect is not in the ledger."""
    duplicated: list[str] = field(default_factory=list)
    """Done twice, outside of the window."""
    unexpected: list[str] = field(default_factory=list)
    """Effects of nobody's calls, and of calls that all were said not to be executed."""
    differing: list[str] = field(default_factory=list)
    """Told two answers, outside of the window."""
    unrecorded: list[str] = field(default_factory=list)
    """Acknowledged, and Redis never got the record, although the server lived to send it."""
    late: list[str] = field(default_factory=list)
    """Calls past their deadline."""
    leaks: list[str] = field(default_factory=list)
    """What is there and should not be; filled in by who looked."""
    window: Counter[str] = field(default_factory=Counter)
    """Double effects by their cause."""
    differing_in_window: int = 0
    unrecorded_in_window: int = 0
    """As `unrecorded`, of servers that were killed: a repeat would execute again."""
    fenced: int = 0
    repeated: int = 0
    """Second effects of calls that may have them."""

    @property
    def bad(self) -> list[str]:
        """Everything that must not be, named."""
        names = ("lost", "duplicated", "unexpected", "differing", "unrecorded", "late", "leaks")
        return [f"{name}: {entry}" for name in names for entry in getattr(self, name)]


def settle(evidence: Evidence) -> Account:
    """Of calls with keys."""
    account, effects = _begin(evidence)
    in_window = _double_effects(account, evidence, effects)
    _answers(account, evidence.said, effects, in_window)
    _expectations(account, evidence, effects)
    _records(account, evidence, effects)
    return account


def settle_plain(evidence: Evidence) -> Account:
    """Of calls without keys: only what may be repeated is executed twice."""
    account, effects = _begin(evidence)
    stopped = min((strike.begin for strike in evidence.strikes if strike.kind == "broker-stop"), default=math.inf)
    explained = set()
    for key, lines in effects.items():
        if key in evidence.repeatable:
            account.repeated += len(lines) - 1
        elif len(lines) > 1 and evidence.unmarked and sorted(line.at for line in lines)[1] >= stopped:
            account.window["unmarked"] += len(lines) - 1
            explained.add(key)
        elif len(lines) > 1:
            account.duplicated.append(f"{key}: {', then '.join(line.token for line in lines)}")
    _answers(account, evidence.said, effects, explained)
    _expectations(account, evidence, effects)
    return account


def _begin(evidence: Evidence) -> tuple[Account, dict[str, list[Line]]]:
    """What needs no comparison, and the effects by key."""
    account = Account(calls=len(evidence.said))
    effects: dict[str, list[Line]] = defaultdict(list)
    for line in evidence.lines:
        if line.kind == "effect":
            effects[line.key].append(line)
    account.effects = sum(map(len, effects.values()))
    account.late = [
        f"{said.key} took {said.end - said.begin:.2f} of {said.timeout:g} s"
        for said in evidence.said
        if said.end - said.begin > said.timeout + LATE
    ]
    return account, effects


def _double_effects(account: Account, evidence: Evidence, effects: dict[str, list[Line]]) -> set[str]:
    """Count them; returns the keys of those that are explained."""
    recorded = {(line.key, line.epoch) for line in evidence.lines if line.kind == "recorded"}
    explained = set()
    for key, lines in effects.items():
        for older, newer in itertools.pairwise(sorted(lines, key=lambda line: line.epoch)):
            cause = ""
            if older.epoch != newer.epoch and (key, older.epoch) not in recorded:
                cause = _cause(older, newer, evidence)
            if not cause:
                account.duplicated.append(f"{key}: {older.token}, then {newer.token}")
                continue
            account.window[cause] += 1
            account.fenced += older.at > newer.at
            explained.add(key)
    return explained


def _cause(older: Line, newer: Line, evidence: Evidence) -> str:
    """Why there was no record of the older one when the newer one began; empty: there is no reason."""
    since = min(older.at, newer.at) - evidence.lease
    for strike in evidence.strikes:
        if strike.pid == older.pid and strike.begin <= newer.at:
            if strike.kind in KILLS:
                return KILLS[strike.kind]
            if strike.kind == "server-outlive" and strike.end >= since:
                return "frozen"
    if any(strike.kind in STORE and strike.begin <= newer.at and strike.end >= since for strike in evidence.strikes):
        return "store"
    return ""


def _answers(account: Account, said: Iterable[Said], effects: dict[str, list[Line]], in_window: set[str]) -> None:
    tokens = {key: {line.token for line in lines} for key, lines in effects.items()}
    told: dict[str, set[str]] = defaultdict(set)
    for one in said:
        if one.answer is None:
            account.failed[one.error.partition(":")[0]] += 1
            continue
        account.acknowledged += 1
        account.replayed += one.replayed
        told[one.key].add(one.answer)
        if one.answer not in tokens.get(one.key, ()):
            account.lost.append(f"{one.key} was answered with {one.answer}")
    for key, answers in told.items():
        if len(answers) > 1 and key in in_window:
            account.differing_in_window += 1
        elif len(answers) > 1:
            account.differing.append(f"{key}: {', '.join(sorted(answers))}")


def _expectations(account: Account, evidence: Evidence, effects: dict[str, list[Line]]) -> None:
    certainties: dict[str, set[str]] = defaultdict(set)
    for said in evidence.said:
        certainties[said.key].add(EXECUTED if said.answer is not None else said.certainty)
    for key in effects:
        if key in evidence.strangers:
            continue
        if key not in certainties:
            account.unexpected.append(f"{key} took effect, and nobody called it")
        elif certainties[key] == {NOT_EXECUTED} and key not in evidence.republished:
            account.unexpected.append(f"{key} took effect, and its callers were told that it was not executed")
    account.unexpected += [
        f"{key} did not take effect, and a caller was told that it was executed"
        for key, known in certainties.items()
        if EXECUTED in known and key not in effects
    ]


def _records(account: Account, evidence: Evidence, effects: dict[str, list[Line]]) -> None:
    recorded = {line.key for line in evidence.lines if line.kind == "recorded"}
    killed = {strike.pid for strike in evidence.strikes if strike.kind in KILLS}
    answered = {said.key for said in evidence.said if said.answer is not None}
    for key in sorted(answered & set(effects) - recorded):
        if killed.isdisjoint(line.pid for line in effects[key]):
            account.unrecorded.append(f"{key}: {effects[key][-1].token}")
        else:
            account.unrecorded_in_window += 1
