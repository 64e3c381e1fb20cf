"""An account, printed."""

from __future__ import annotations

from tests.faults.soak.accounting import Account

SHOWN = 5
"""Of each kind of what must not be."""


def lines_of(account: Account) -> list[str]:
    """A line for each number; what must be zero and is not is followed by its first entries."""
    failed = ", ".join(f"{name} {count}" for name, count in account.failed.most_common())
    window = ", ".join(f"{cause} {count}" for cause, count in sorted(account.window.items()))
    found = [
        f"calls                 {account.calls}",
        f"acknowledged          {account.acknowledged}, of which replayed {account.replayed}",
        f"failed                {account.failed.total()}" + (f" ({failed})" if failed else ""),
        f"effects               {account.effects}",
    ]
    for name, entries in (
        ("lost", account.lost),
        ("duplicated", account.duplicated),
        ("unexpected", account.unexpected),
        ("differing answers", account.differing),
        ("never recorded", account.unrecorded),
        ("past their deadline", account.late),
        ("leaks", account.leaks),
    ):
        found.append(f"{name:<22}{len(entries)}")
        found += [f"    {entry}" for entry in entries[:SHOWN]]
    found.append(
        f"{'in the window':<22}{account.window.total()}"
        + (f" ({window}); differing answers {account.differing_in_window}" if window else "")
        + (f"; never recorded {account.unrecorded_in_window}" if account.unrecorded_in_window else "")
        + (f"; a fencing token refuses {account.fenced}" if account.fenced else "")
    )
    return found
