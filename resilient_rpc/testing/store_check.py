"""check_store(): whether a store keeps the rules that idempotency stands on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resilient_rpc.stores import Store
from resilient_rpc.testing.lab import Broken
from resilient_rpc.testing.report import Report, check_left_out, said
from resilient_rpc.testing.store_rules import RULES, Bench, StoreRule

PATIENCE = 30.0
"""Seconds that a rule may take."""


@dataclass(frozen=True, kw_only=True)
class StoreReport(Report):
    """What `check_store` found to hold, and what it was told to leave out."""

    store: str

    def __str__(self) -> str:
        return self.of(self.store)


def check_store(
    make: Callable[[], Store], *, except_for: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> StoreReport:
    """Try a store out as servers would; AssertionError names the first rule that it breaks.

    It takes a few seconds of real time. Keys are drawn at random, so that the store may be one that others use. Call it
    where no event loop runs.

    Args:
        make: Makes a store each time: its class, or ``lambda: MyStore("...")``.
        except_for: Rules that the store breaks by its nature, each with the reason, which the report repeats.
        patience: Seconds after which a rule that has not ended counts as broken.
    """
    left_out = dict(except_for or {})
    check_left_out(RULES, left_out)
    name = ""
    for rule in RULES:
        if rule.name not in left_out:
            store = make()
            name = type(store).__qualname__
            try:
                asyncio.run(_check(rule, store, patience))
            except Broken as broken:
                raise AssertionError(f"{name} breaks the rule `{rule.name}`: {rule.says}.\n{broken}") from broken
    return StoreReport(store=name, holds=said(RULES, left_out), left_out=left_out)


async def _check(rule: StoreRule, store: Store, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            await rule.check(Bench(store=store))
    except Broken:
        raise
    except TimeoutError as error:
        raise Broken(f"it did not end within {patience:g} s") from error
    except Exception as error:
        raise Broken(f"it raised {error!r}") from error
    finally:
        close = getattr(store, "close", None)
        if close is not None:
            await close()
