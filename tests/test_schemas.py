"""Results are made into what their schema says, where JSON has no word for it, and nothing is lost."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.schemas import MAX_DEPTH, REF, converter

UTC = dt.UTC
ID = uuid.UUID(int=5)


class Line(msgspec.Struct):
    id: uuid.UUID
    inside: Line | None = None
    notes: dict[str, dt.date] = {}


class Place(NamedTuple):
    name: str
    since: dt.date


class Tagged(msgspec.Struct, tag=True):
    at: dt.date


class Other(msgspec.Struct, tag=True):
    at: str


def made(type_: Any) -> Any:
    (schema,), components = msgspec.json.schema_components([type_], ref_template=REF + "{name}")
    return converter(schema, components)


DAY = dt.date(2026, 5, 1)
CASES: list[tuple[Any, Any]] = [
    (uuid.UUID, ID),
    (decimal.Decimal, decimal.Decimal("1.50")),
    (dt.date, DAY),
    (Annotated[dt.time, msgspec.Meta(tz=True)], dt.time(10, 30, tzinfo=UTC)),
    (Annotated[dt.datetime, msgspec.Meta(tz=True)], dt.datetime(2026, 5, 1, 10, tzinfo=UTC)),
    (dt.timedelta, dt.timedelta(seconds=90)),
    (bytes, b"\x00\xff"),
    (list[uuid.UUID], [ID, ID]),
    (dict[str, dt.date], {"a": DAY}),
    (dt.date | None, DAY),
    (dt.date | None, None),
    (list[dt.date | None] | None, [DAY, None]),
    (uuid.UUID | int, 5),
]


@pytest.mark.parametrize(("type_", "value"), CASES)
def test_a_value_survives_the_way_over_the_wire(type_: Any, value: Any) -> None:
    arrived = msgspec.json.decode(msgspec.json.encode(value))
    assert made(type_)(arrived) == value


def test_objects_stay_dicts_whose_fields_are_converted() -> None:
    line = Line(ID, Line(ID, None, {"b": DAY}), {"a": DAY})
    arrived = {**msgspec.json.decode(msgspec.json.encode(line)), "new": "field"}
    assert made(Line)(arrived) == {
        "id": ID,
        "inside": {"id": ID, "inside": None, "notes": {"b": DAY}},
        "notes": {"a": DAY},
        "new": "field",
    }
    assert made(Place)(["here", "2026-05-01"]) == ["here", DAY]


@pytest.mark.parametrize(
    "type_", [int, str, float, None, Any, list[int], dict[str, str], int | str, dict[str, Any], list[dict[str, float]]]
)
def test_where_there_is_nothing_to_convert_there_is_no_converter(type_: Any) -> None:
    assert made(type_) is None


def test_of_several_objects_none_is_guessed() -> None:
    assert made(Tagged | Other) is None
    both = made(Tagged | Other | dt.date)
    assert both("2026-05-01") == DAY
    assert both({"type": "Tagged", "at": "2026-05-01"}) == {"type": "Tagged", "at": "2026-05-01"}


@pytest.mark.parametrize("value", ["", "yesterday", 5, None, [], {}, b"bytes", ID])
def test_what_is_not_in_its_format_stays_what_it_is(value: Any) -> None:
    assert made(uuid.UUID)(value) == value
    assert made(list[uuid.UUID])(value) == value
    assert made(Line)(value) == value


@pytest.mark.parametrize(
    "schema",
    [
        None, 5, True, [], {"$ref": "#/nowhere"}, {"$ref": 5}, {"type": ["string", "null"]}, {"anyOf": 5},
        {"anyOf": [5, {"$ref": "a"}, {"type": 5}]}, {"type": "array", "items": 5, "prefixItems": 5},
        {"type": "object", "properties": 5, "additionalProperties": []}, {"type": "string", "format": []},
    ],
)  # fmt: skip
def test_a_schema_that_is_none_converts_nothing(schema: Any) -> None:
    assert converter(schema, {"a": {"$ref": REF + "a"}}) is None


def test_schemas_that_only_refer_to_each_other_end() -> None:
    schemas = {"a": {"$ref": REF + "b"}, "b": {"$ref": REF + "a"}, "c": {"anyOf": [{"$ref": REF + "a"}]}}
    for name in schemas:
        convert = converter({"$ref": REF + name}, schemas)
        assert convert is None or convert("x") == "x"


def test_a_schema_may_be_deep() -> None:
    schema: dict[str, Any] = {"type": "string", "format": "date"}
    for _ in range(MAX_DEPTH + 5):
        schema = {"type": "array", "items": schema}
    assert converter(schema, {}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from(["type", "string", "object", "array", "format", "date", "anyOf", "items", "$ref", REF + "a"])
schema_like = st.recursive(
    words | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=15,
)


@given(schema_like, schema_like, json_values)
def test_no_schema_and_no_value_makes_trouble(schema: Any, named: Any, value: Any) -> None:
    convert = converter(schema, {"a": named})
    if convert is not None:
        convert(value)
