"""An account, printed."""

from __future__ import annotations

from resilient_rpc.errors import DeadlineExceeded
from tests.faults.soak.accounting import Account

SHOWN = 5
"""Of each kind of what must not be."""


def lines_of(account: Account, *, keyed: bool = True) -> list[str]:
    """A line for each number; what must be zero and is not is followed by its first entries."""
    failed = ", ".join(f"{name} {count}" for name, count in account.failed.most_common())
    replayed = f", of which replayed {account.replayed}" if keyed else ""
    found = [
        f"calls                 {account.calls}",
        f"acknowledged          {account.acknowledged}{replayed}",
        f"failed                {account.failed.total()}" + (f" ({failed})" if failed else ""),
        f"ended by deadline     {account.failed[DeadlineExceeded.__name__]}",
        f"effects               {account.effects}",
    ]
    for name, entries in (
        ("lost", account.lost),
        ("duplicated", account.duplicated),
        ("unexpected", account.unexpected),
        *([("differing answers", account.differing), ("never recorded", account.unrecorded)] if keyed else []),
        ("past their deadline", account.late),
        ("leaks", account.leaks),
    ):
        found.append(f"{name:<22}{len(entries)}")
        found += [f"    {entry}" for entry in entries[:SHOWN]]
    if keyed or account.window:
        found.append(_window(account))
    if not keyed:
        found.append(f"repeated, as allowed  {account.repeated}")
    return found


def _window(account: Account) -> str:
    window = ", ".join(f"{cause} {count}" for cause, count in sorted(account.window.items()))
    return (
        f"{'in the window':<22}{account.window.total()}"
        + (f" ({window}); differing answers {account.differing_in_window}" if window else "")
        + (f"; never recorded {account.unrecorded_in_window}" if account.unrecorded_in_window else "")
        + (f"; a fencing token refuses {account.fenced}" if account.fenced else "")
    )
