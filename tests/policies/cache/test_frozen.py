from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import uuid
from collections import OrderedDict, defaultdict
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ApplicationError
from resilient_rpc.policies.cache.frozen import another, freeze, is_immutable, pack, thawer, weigh


class Price(msgspec.Struct):
    amount: Decimal
    at: dt.datetime
    tags: set[str]
    raw: bytes


class Renamed(msgspec.Struct, rename="camel", tag="r", eq=False):
    two_words: list[int]


@dataclasses.dataclass
class Line:
    sku: str
    seen: frozenset[int]


class Colour(enum.Enum):
    RED = 1


class Odd:
    def __init__(self, inner: list[int]) -> None:
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and self.inner == other.inner

    __hash__ = None  # type: ignore[assignment]


FAR = dt.timezone(dt.timedelta(hours=2))
PRICE = Price(Decimal("9.50"), dt.datetime(2020, 1, 1, tzinfo=FAR), {"a", "b"}, b"\x00\xff")
VALUES = [
    (None, None),
    (5, None),
    (2**70, None),
    ("text", None),
    (b"\x00", None),
    (Decimal("1.0"), Decimal),
    (dt.datetime(2020, 1, 1, tzinfo=FAR), dt.datetime),
    (uuid.UUID(int=5), uuid.UUID),
    ([1, 1.0, True, "x", None, b"y"], None),
    ({"a": [1], "b": {"c": 2.5}}, None),
    ({1: ["key"]}, None),
    ({(1, 2): ["key"]}, None),
    ([{True: 1}], None),
    ([2**70], None),
    ([math.inf, -0.0], None),
    ((1, [2]), None),
    ({1, 2}, None),
    (OrderedDict(a=[1]), None),
    (defaultdict(list, a=[1]), None),
    ([Decimal(1)], None),
    ([dt.datetime(2020, 1, 1, tzinfo=FAR)], list[dt.datetime]),
    ([dt.datetime(2020, 1, 1, tzinfo=FAR)], None),
    (PRICE, Price),
    ([PRICE], list[Price]),
    ({"x": PRICE}, None),
    (Line("A1", frozenset({1})), Line),
    ((1, "a"), tuple[int, str]),
    ({1: {"a"}}, dict[int, set[str]]),
    ([math.inf], list[float]),
    ([2**70], list[int]),
    (Odd([1]), None),
    ([Colour.RED], list[Colour]),
    ([Colour.RED], None),
]


# Not the values' repr: the order of a set is another one in each process, and a test has one name in all of them.
@pytest.mark.parametrize(("value", "returns"), VALUES, ids=[f"{type(value).__name__} as {to}" for value, to in VALUES])
def test_what_comes_back_is_the_same_and_a_new_one(value: Any, returns: Any) -> None:
    held, thaw, size = freeze(value, returns)
    twins = [held if thaw is None else thaw(held) for _ in range(2)]
    for twin in twins:
        assert type(twin) is type(value)
        assert twin == value
        assert repr(twin) == repr(value) or isinstance(value, set | Price | Odd | dict | list)
    assert (twins[0] is twins[1]) is is_immutable(value)
    assert size > 0


def test_a_time_keeps_its_zone() -> None:
    held, thaw, _ = freeze([PRICE], list[Price])
    assert thaw is not None
    assert thaw(held)[0].at.utcoffset() == dt.timedelta(hours=2)


def test_what_compares_by_identity_is_copied() -> None:
    value = Renamed([1])
    held, thaw, _ = freeze(value, Renamed)
    value.two_words.append(2)
    assert thaw is not None
    assert thaw(held).two_words == [1]
    assert held is not value


def test_a_subclass_of_what_is_immutable_is_copied() -> None:
    class Loud(str):
        __slots__ = ("notes",)

    value = Loud("x")
    value.notes = [1]  # type: ignore[attr-defined]
    held, thaw, _ = freeze(value, None)
    value.notes.append(2)  # type: ignore[attr-defined]
    assert thaw is not None
    assert thaw(held).notes == [1]


def test_what_cannot_be_copied_is_told() -> None:
    with pytest.raises(TypeError):
        freeze((number for number in range(3)), None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner) | st.tuples(inner),
        max_leaves=20,
    )
)
def test_any_value_comes_back(value: Any) -> None:
    held, thaw, _ = freeze(value, None)
    twin = held if thaw is None else thaw(held)
    assert repr(twin) == repr(value)
    data = pack(value, None)
    if data is not None:
        assert repr(thawer(None)(data)) == repr(value)


def test_other_processes_get_what_is_the_same_there() -> None:
    assert pack((1, 2), None) is None
    data = pack(PRICE, Price)
    assert data is not None
    assert thawer(Price)(data) == PRICE


def test_what_is_weighed() -> None:
    inner = ["x" * 1000]
    assert 1000 < weigh([inner, inner, str, math, weigh]) < 2000
    assert weigh(Odd(list(range(1000, 2000)))) > 8000


def test_an_error_that_cannot_be_copied_is_the_same_for_all() -> None:
    class Stubborn(ApplicationError):
        def __copy__(self) -> ApplicationError:
            raise TypeError

    error = Stubborn("no", details=[1])
    assert another(error) is error
    assert another(ValueError("x")) is not None
