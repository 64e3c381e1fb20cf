from __future__ import annotations

from typing import Any, ClassVar

import pytest

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain.classes import check_classes
from resilient_rpc.client import Client
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import Deadline, for_
from resilient_rpc.policy import Handler

DECLARED = {"orders.price": Safety.READ_ONLY, "orders.create": Safety.UNSAFE, "orders.pay": Safety.DEDUP}


class Keep:
    """Only for what has no effect."""

    requires: ClassVar[frozenset[Safety]] = frozenset({Safety.READ_ONLY})

    def __init__(self, methods: Any = None) -> None:
        self.methods = methods

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call)


class Twice(Keep):
    requires = frozenset({Safety.READ_ONLY, Safety.IDEMPOTENT, Safety.DEDUP})


@pytest.mark.parametrize(
    "policy",
    [
        Keep(),
        Keep("orders.price"),
        Keep(["orders.price", "orders.unknown"]),
        Keep({"orders.price": 5}),
        Twice({"orders.pay", "orders.price"}),
        for_("orders.price", Keep()),
        for_("orders", Keep()),
        for_("orders.unknown", Keep()),
        for_("orders.create", Deadline(limit=1)),
        for_("orders.create", without=("cache",)),
        Deadline(limit=1),
    ],
)
def test_a_policy_may_be_put_on_what_it_serves(policy: Any) -> None:
    check_classes([policy], DECLARED)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            Keep("orders.create"),
            r"'orders\.create', which safety= declares 'unsafe'.* only for read_only",
        ),
        (Keep(["orders.price", "orders.pay"]), r"Keep is put on 'orders\.pay', which safety= declares 'dedup'"),
        (Twice({"orders.create": 1}), "only for read_only or idempotent or dedup"),
        (for_("orders.create", Keep()), r"Keep is put on 'orders\.create'.*take the method off it"),
        (for_("orders", Keep("orders.create")), r"Keep is put on 'orders\.create'"),
    ],
)
def test_a_policy_on_a_method_of_another_class_is_refused(policy: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_classes([policy], DECLARED)


def test_a_client_checks_it_when_it_is_built_and_when_it_is_reloaded() -> None:
    policies: list[Any] = [for_("orders.create", Keep())]
    with pytest.raises(ConfigurationError, match="Keep is put on"):
        Client("memory://x", policies=policies, safety=dict(DECLARED))
    client = Client("memory://x", policies=[], safety=dict(DECLARED))
    with pytest.raises(ConfigurationError, match="Keep is put on"):
        client.reload(policies)
    Client("memory://x", policies=policies, safety="unsafe")


def test_one_class_for_all_methods_is_checked_likewise() -> None:
    policies: list[Any] = [for_("orders.create", Keep())]
    with pytest.raises(
        ConfigurationError, match=r"Keep is put on 'orders\.create', which safety= declares 'idempotent'"
    ):
        Client("memory://x", policies=policies, safety="idempotent")
    Client("memory://x", policies=policies, safety="read_only")
    Client("memory://x", policies=[Keep()], safety="idempotent")
