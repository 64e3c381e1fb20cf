from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.contract import Method, Methods, split_method
from resilient_rpc.errors import ConfigurationError, MethodNotFound
from resilient_rpc.names import MAX_NAME, check_name


def nothing() -> None: ...


# -- names


@pytest.mark.parametrize("name", ["a", "price", "a.b", "admin.users.list", "aB_9", "a__b", "x" * MAX_NAME])
def test_a_name_of_letters_digits_and_dots_is_good(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "a.", ".a", "a..b", "_a", "__class__", "a.__init__", "a._b", "_", "1a", "a.1", "a b", "a\n", "\na",
        "a\x00", "a-b", "a/b", "a:b", "a#", "*", "\u0440rice", "price\u200b", "\uff41", "é", "a\u0301", "²",
        "x" * (MAX_NAME + 1), "x" * 10_240, "a." * 6000, None, 5, b"a", ["a"], True,
    ],
)  # fmt: skip
def test_any_other_name_is_refused_shortly(name: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_name(name)
    assert len(str(caught.value)) < 1000


@given(st.text(max_size=20))
def test_a_good_name_has_no_private_part(name: str) -> None:
    try:
        check_name(name)
    except ConfigurationError:
        return
    assert name.isascii()
    assert all(part[0].isalpha() for part in name.split("."))


@pytest.mark.parametrize(
    ("method", "parts"), [("orders.price", ("orders", "price")), ("orders.admin.list", ("orders", "admin.list"))]
)
def test_the_service_is_what_stands_before_the_first_dot(method: str, parts: tuple[str, str]) -> None:
    assert split_method(method) == parts


@pytest.mark.parametrize("method", ["price", "", ".", ".price", "orders."])
def test_a_method_without_its_service_is_refused(method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"service\.method"):
        split_method(method)


# -- the registry


def method(name: str, safety: Safety | None = None) -> Method:
    binder = Binder(nothing, Context)
    return Method(name=name, function=nothing, binder=binder, safety=safety, timeout=None, is_async=False)


def test_a_method_is_found_with_and_without_its_service() -> None:
    methods = Methods("orders")
    price = method("price")
    methods.add(price)
    assert methods.find("price") is price
    assert methods.find("orders.price") is price
    assert methods.names() == ["price"]


@pytest.mark.parametrize(
    "name",
    ["__class__", "_methods", "price.__init__", "__init__", "Price", "price ", "\u0440rice", "orders", "other.price",
     "", ".", "orders.orders.price", "x" * 10_240, "find", "\ud800"],
)  # fmt: skip
def test_nothing_else_is_found_and_the_error_is_short(name: str) -> None:
    methods = Methods("orders")
    methods.add(method("price"))
    with pytest.raises(MethodNotFound) as caught:
        methods.find(name)
    assert len(str(caught.value)) < 1000


def test_a_name_is_taken_once() -> None:
    methods = Methods("orders")
    methods.add(method("price"))
    with pytest.raises(ConfigurationError, match="registered already"):
        methods.add(method("price"))


@pytest.mark.parametrize("names", [("price", "orders.price"), ("orders.price", "price")])
def test_two_names_that_a_caller_could_not_tell_apart_are_refused(names: tuple[str, str]) -> None:
    methods = Methods("orders")
    first = method(names[0])
    methods.add(first)
    with pytest.raises(ConfigurationError, match="registered already"):
        methods.add(method(names[1]))
    assert methods.find(names[0]) is first


@pytest.mark.parametrize("service", ["", "a.b", "_a", "1", None, "a b", "é"])
def test_a_service_has_a_plain_name(service: Any) -> None:
    with pytest.raises(ConfigurationError):
        Methods(service)


@pytest.mark.parametrize("declared", [None, *Safety])
@pytest.mark.parametrize("hint", [None, *Safety])
def test_the_servers_word_on_safety_rules(declared: Safety | None, hint: Safety | None) -> None:
    assert method("m", declared).safety_for(hint) is (declared or hint or Safety.UNSAFE)
