"""Types in words: what a schema says, as far as a decoder can tell it apart."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.cli.stub_types import LONGEST, MAX_DEPTH, Types, identifier, quoted, title
from resilient_rpc.schemas import REF

A, B = {"$ref": REF + "A"}, {"$ref": REF + "B"}
OBJECT = {"type": "object", "properties": {"x": {"type": "integer"}}}
SCHEMAS: dict[str, Any] = {
    "A": OBJECT,
    "B": OBJECT,
    "Colour": {"enum": ["red", "blue"]},
    "Loop": {"$ref": REF + "Loop"},
    "Pages": {"type": "array", "items": A},
    "Maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
}
TAGGED = {"discriminator": {"propertyName": "type", "mapping": {"A": REF + "A", "B": REF + "B", "C": 5}}}


def types(*methods: Any) -> Types:
    return Types({"components": {"schemas": SCHEMAS}, "methods": list(methods)}, {"B"})


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        (A, "A"), (B, "B_"), ({"$ref": REF + "Pages"}, "list[A]"), ({"$ref": REF + "Colour"}, 'Literal["red", "blue"]'),
        ({"$ref": REF + "Loop"}, "Any"), ({"$ref": "elsewhere"}, "Any"), ({"anyOf": [A, B]}, "dict[str, Any]"),
        ({"anyOf": [A, A, {"type": "null"}]}, "A | None"), ({"anyOf": [{"type": "null"}, A]}, "A | None"),
        ({"anyOf": [{"type": "string"}, {"type": "string", "format": "uuid"}]}, "str"),
        ({"anyOf": [{"$ref": REF + "Colour"}, {"type": "string"}]}, "str"),
        ({"anyOf": [{"enum": ["a", 1]}, {"type": "integer"}]}, "int | str"),
        ({"anyOf": [{"$ref": REF + "Maybe"}, {"type": "string"}]}, "int | None | str"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "int | float"),
        ({"anyOf": [{"type": "array"}, {"type": "array", "items": A}]}, "list[Any]"),
        ({"anyOf": [{"type": "integer"}, {}]}, "Any"), ({"anyOf": []}, "Any"), ({"anyOf": [A] * 101}, "Any"),
        ({"const": "a"}, 'Literal["a"]'), ({"const": None}, "None"), ({"enum": []}, "Any"), ({"enum": [1.5]}, "Any"),
        ({"enum": ["a", None]}, 'Literal["a", None]'), ({"enum": [True]}, "Any"),
        ({"type": "array", "uniqueItems": True}, "list[Any]"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, "set[str]"),
        ({"type": "array", "prefixItems": [A], "minItems": 0, "maxItems": 1}, "list[Any]"),
        ({"type": "object", "additionalProperties": A}, "dict[str, A]"), ({"type": "strange"}, "Any"), (5, "Any"),
    ],
)  # fmt: skip
def test_a_schema_has_a_type(schema: Any, type_: str) -> None:
    found = types().of(schema)
    assert found == type_ or set(found.split(" | ")) == set(type_.split(" | "))


def test_objects_that_a_field_tells_apart_may_stand_together() -> None:
    union = {"anyOf": [A, B], **TAGGED}
    found = types({"result": {"schema": union}})
    assert found.tags == {"A": "type", "B": "type"}
    assert found.of(union) == "A | B_"


def test_a_description_cannot_keep_anybody_busy() -> None:
    schemas: dict[str, Any] = {"S0": {"type": "string"}}
    for number in range(1, MAX_DEPTH):
        inner = {"$ref": f"{REF}S{number - 1}"}
        schemas[f"S{number}"] = {"anyOf": [inner, {"type": "array", "items": inner}]}
    found = Types({"components": {"schemas": schemas}}, set())
    assert len(found.of({"$ref": f"{REF}S{MAX_DEPTH - 1}"})) < 2 * LONGEST
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(MAX_DEPTH + 2):
        deep = {"type": "array", "items": deep}
    assert "Any" in found.of(deep)


@pytest.mark.parametrize(
    ("text", "name"),
    [("price", "price"), ("deep.name", "deep_name"), ("class", "class_"), ("1st", "x1st"), ("", "x"),
     ("__init__", "init__"), ("é", "x"), ("taken", "taken_"), ("twice", "twice_2")],
)  # fmt: skip
def test_a_name_can_be_used_in_python(text: str, name: str) -> None:
    assert identifier(text, taken={"taken", "twice", "twice_"}) == name


def test_words_are_quoted_as_ruff_would() -> None:
    assert [quoted(each) for each in ("a", "it's", 'say "a"', "\n", 5, 1.5, True)] == [
        '"a"', '"it\'s"', "'say \"a\"'", '"\\n"', "5", "1.5", "True",
    ]  # fmt: skip
    assert title("out_of_stock") == "OutOfStock"
