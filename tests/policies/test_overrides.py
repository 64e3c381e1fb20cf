from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import AttemptTimeout, Deadline, for_

CAP = Deadline(limit=1)


@pytest.mark.parametrize("pattern", ["orders", "orders.price", "orders.items.price", "a_1.b_2"])
def test_a_service_or_the_full_name_of_a_method(pattern: str) -> None:
    assert repr(for_(pattern, CAP)) == f"for_('{pattern}', Deadline(limit=1))"


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("orders.*", "orders"),
        ("orders*", "orders"),
        ("orders.", "orders"),
        (" orders.price ", "orders.price"),
        ("orders/price", "orders.price"),
        ("orders::price", "orders.price"),
        ("order-items.price", "order_items.price"),
    ],
)
def test_a_malformed_name_is_refused_with_what_may_be_meant(pattern: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        for_(pattern, CAP)
    assert repr(pattern) in str(caught.value)
    assert str(caught.value).endswith(f"did you mean {meant!r}?")


@pytest.mark.parametrize("pattern", ["", "*", "_private.x", "orders._x", "1st", 7, None, "x" * 200])
def test_a_malformed_name_that_means_nothing_is_refused(pattern: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give the name of a service .* method \('orders\.price'\)$"):
        for_(pattern, CAP)


@pytest.mark.parametrize(
    ("policies", "without", "message"),
    [
        ((), (), "changes nothing"),
        ((), "retry", r"without='retry': give a tuple of roles: without=\('retry',\)"),
        ((), None, "without=None: give a tuple of roles"),
        ((), (7,), "holds the names of roles"),
        ((Deadline,), (), "Deadline is a class"),
        ((7,), (), "not a policy: 7"),
        ((for_("orders", CAP),), (), "stands inside of it; put both into the list"),
        ((AttemptTimeout(),), ("attempt_timeout",), "both leaves out 'attempt_timeout' and brings one"),
    ],
)
def test_what_makes_no_sense_is_refused(policies: Any, without: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        for_("orders.price", *policies, without=without)
