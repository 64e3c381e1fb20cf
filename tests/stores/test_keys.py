from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from redis.crc import key_slot

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.base import RecordKey
from resilient_rpc.stores.keys import check_namespace, name_of

PARTS = st.text(max_size=40) | st.sampled_from(["", ":", "{", "}", "a", "a:b", "\n", "\ud800", "x" * 1024])


def test_a_name_shows_whose_record_it_is() -> None:
    name = name_of("rpc", RecordKey("acme", "orders", "create", "order-42")).decode()
    assert name.startswith("rpc:idem:{acme:orders.create:")
    assert name.endswith("}")
    assert "order-42" not in name


@given(PARTS, PARTS, PARTS, PARTS)
def test_no_part_changes_the_form_or_the_length_of_a_name(tenant: str, service: str, method: str, key: str) -> None:
    name = name_of("rpc", RecordKey(tenant, service, method, key))
    assert len(name) <= 210
    assert name.isascii()
    assert (name.count(b"{"), name.count(b"}"), name.count(b":")) == (1, 1, 4)
    assert name.decode().isprintable()
    assert key_slot(name) == key_slot(name.partition(b"{")[2].partition(b"}")[0])


@given(st.lists(st.tuples(PARTS, PARTS, PARTS, PARTS), min_size=2, max_size=2, unique=True))
def test_different_keys_have_different_names(keys: list[tuple[str, str, str, str]]) -> None:
    first, second = (name_of("rpc", RecordKey(*key)) for key in keys)
    assert first != second


def test_records_of_one_tenant_are_spread_over_the_slots() -> None:
    slots = {key_slot(name_of("rpc", RecordKey("t", "s", "m", str(number)))) for number in range(1000)}
    assert len(slots) > 900


@pytest.mark.parametrize("namespace", ["", "a{b", "a b", "x" * 65, None, "ä", "a\n"])
def test_a_namespace_that_keys_cannot_begin_with_is_refused(namespace: object) -> None:
    with pytest.raises(ConfigurationError, match=r"RedisStore\.namespace"):
        check_namespace("RedisStore.namespace", namespace)
