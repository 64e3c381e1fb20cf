from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.service import Service


def made(**how: Any) -> tuple[Service, list[Any]]:
    calls: list[Any] = []

    def send(method: str, params: Any, **options: Any) -> str:
        calls.append((method, params, options))
        return "sent"

    return Service(send, "shop", how), calls


def test_an_attribute_is_a_method_with_its_arguments_by_name_or_by_position() -> None:
    service, calls = made()
    assert service.price(sku="A", qty=2) == "sent"
    service.price("A", 2)
    service.price()
    assert calls == [
        ("shop.price", {"sku": "A", "qty": 2}, {}),
        ("shop.price", ("A", 2), {}),
        ("shop.price", {}, {}),
    ]


def test_not_by_both() -> None:
    service, calls = made()
    with pytest.raises(ConfigurationError, match="not both"):
        service.price("A", qty=2)
    assert calls == []


def test_with_gives_another_service_that_keeps_what_was_said_before() -> None:
    service, calls = made()
    quick = service.with_(timeout=1.0, tags={"a": "b"})
    quick.with_(timeout=2.0).price()
    quick.price()
    service.price()
    assert [how for _, _, how in calls] == [
        {"timeout": 2.0, "tags": {"a": "b"}},
        {"timeout": 1.0, "tags": {"a": "b"}},
        {},
    ]


@pytest.mark.parametrize("name", ["_private", "__class_getitem__", "__len__", "__iter__", "__await__", "_"])
def test_private_names_are_no_methods(name: str) -> None:
    service, calls = made()
    assert not hasattr(service, name)
    assert calls == []


def test_it_can_be_shown_copied_and_is_not_pickled_by_accident() -> None:
    service, calls = made(timeout=1)
    assert repr(service) == "Service('shop')"
    copy.copy(service).price()
    assert calls == [("shop.price", {}, {"timeout": 1})]
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(service)


@pytest.mark.parametrize("name", ["", "_x", "a b", None, 5])
def test_its_name_is_a_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="service"):
        Service(lambda *_: None, name)
