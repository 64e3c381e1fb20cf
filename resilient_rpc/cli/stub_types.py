"""JSON schemas of a description as Python types, in words.

The description comes from somebody else's server, and its words become source code: every name is checked, every value
is quoted.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from resilient_rpc.schemas import REF

ANY = "Any"
TEXTS = {
    "date-time": "datetime.datetime",
    "date": "datetime.date",
    "time": "datetime.time",
    "duration": "datetime.timedelta",
    "uuid": "uuid.UUID",
    "decimal": "decimal.Decimal",
}
PLAIN = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}
GENERAL = {"string": "str", "integer": "int", "number": "float", "array": "list[Any]", "object": "dict[str, Any]"}
"""What stands for several types of one kind: a decoder could not tell them apart."""
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
MAX_DEPTH = 32
MOST_VARIANTS = 100
LONGEST = 500
"""Characters of a type that is written out; what would be longer is `Any`."""


def identifier(text: str, *, taken: Collection[str] = ()) -> str:
    """A name for it in Python that is not taken."""
    found = re.sub(r"\W", "_", text, flags=re.ASCII).lstrip("_")  # what begins with underscores means something else
    found = found if found and not found[0].isdigit() else f"x{found}"
    name = f"{found}_" if keyword.iskeyword(found) or found in taken else found
    number = 1
    while name in taken:
        number += 1
        name = f"{found}_{number}"
    return name


def quoted(value: str | float) -> str:
    """A text or a number as source code."""
    said = repr(value)
    return f'"{said[1:-1]}"' if said.startswith("'") and '"' not in said else said


def title(text: str) -> str:
    """``out_of_stock`` as ``OutOfStock``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", text, flags=re.ASCII))


def mapping(value: Any) -> Mapping[str, Any]:
    """It, if it is one; else an empty one."""
    return value if isinstance(value, dict) else {}


class Types:
    """The types of one description. `classes` are those of its components that become classes, by their own name."""

    def __init__(self, document: Mapping[str, Any], taken: Iterable[str]) -> None:
        schemas = mapping(mapping(document.get("components")).get("schemas"))
        self.schemas = {name: each for name, each in sorted(schemas.items()) if isinstance(each, dict)}
        self.tags = _tags([document.get("methods"), schemas])
        """Components that a field tells apart, and the name of that field."""
        self._texts: dict[str, str] = {}
        self._known_kinds: dict[str, set[str]] = {}
        self.classes: dict[str, str] = {}
        used = set(taken)
        for name, each in self.schemas.items():
            if each.get("type") == "object" and isinstance(each.get("properties"), dict):
                self.classes[name] = identifier(name, taken=used)
                used.add(self.classes[name])

    def of(self, schema: Any, depth: int = 0) -> str:
        """The type of a schema; `Any` for what is none, or is nested without end."""
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return ANY
        reference = schema.get("$ref")
        if isinstance(reference, str):
            name = reference.removeprefix(REF)
            return self.classes.get(name) or self._inlined(name, depth)
        if isinstance(schema.get("anyOf"), list):
            return self._union(schema["anyOf"], depth)
        if isinstance(schema.get("enum"), list):
            return _literal(schema["enum"])
        if "const" in schema:
            return _literal([schema["const"]])
        return self._by_kind(schema, depth)

    def _inlined(self, name: str, depth: int) -> str:
        """A component that is no class: written out, unless it stands in itself or would be endless."""
        known = self._texts.get(name)
        if known is None:
            self._texts[name] = ANY
            found = self.of(self.schemas.get(name), depth + 1)
            known = self._texts[name] = found if len(found) <= LONGEST else ANY
        return known

    def _by_kind(self, schema: dict[str, Any], depth: int) -> str:
        match schema.get("type"):
            case "string":
                encoded = schema.get("contentEncoding") == "base64"
                return "bytes" if encoded else TEXTS.get(str(schema.get("format")), "str")
            case "array":
                return self._array(schema, depth)
            case "object":
                inner = self.of(schema.get("additionalProperties"), depth + 1)
                return f"dict[str, {inner}]"
            case str(kind):
                return PLAIN.get(kind, ANY)
        return ANY

    def _array(self, schema: dict[str, Any], depth: int) -> str:
        first = schema.get("prefixItems")
        if isinstance(first, list):
            fixed = first and schema.get("minItems") == schema.get("maxItems") == len(first)
            return f"tuple[{', '.join(self.of(each, depth + 1) for each in first)}]" if fixed else GENERAL["array"]
        inner = self.of(schema.get("items"), depth + 1)
        return f"set[{inner}]" if schema.get("uniqueItems") is True and inner != ANY else f"list[{inner}]"

    def _union(self, variants: list[Any], depth: int) -> str:
        if len(variants) > MOST_VARIANTS:
            return ANY
        found = [(self._kinds(each, depth), self.of(each, depth + 1), self._tag(each)) for each in variants]
        if any(type_ == ANY for _, type_, _ in found) or not found:
            return ANY
        parts: list[str] = []
        for kinds, type_, tag in found:
            rivals = [other for other in found if other[1] != type_ and other[0] & kinds]
            told_apart = tag is not None and all(other[2] == tag for other in rivals)
            if rivals and not told_apart:
                parts += [GENERAL.get(kind, PLAIN.get(kind, ANY)) for kind in sorted(kinds)]
            else:
                parts.append(type_)
        return " | ".join(sorted(dict.fromkeys(parts), key=lambda part: part == "None"))

    def _kinds(self, schema: Any, depth: int) -> set[str]:
        """What JSON makes of its values."""
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return set()
        reference = schema.get("$ref")
        if isinstance(reference, str):
            name = reference.removeprefix(REF)
            if name not in self._known_kinds:
                self._known_kinds[name] = set()
                self._known_kinds[name] = self._kinds(self.schemas.get(name), depth + 1)
            return self._known_kinds[name]
        if isinstance(schema.get("anyOf"), list):
            return {kind for each in schema["anyOf"] for kind in self._kinds(each, depth + 1)}
        if isinstance(schema.get("enum"), list):
            return {KINDS[type(each)] for each in schema["enum"] if type(each) in KINDS}
        return {str(schema.get("type"))}

    def _tag(self, schema: Any) -> str | None:
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        return self.tags.get(reference.removeprefix(REF)) if isinstance(reference, str) else None


def _literal(values: list[Any]) -> str:
    kinds = {type(value) for value in values}
    if not values or not kinds <= {str, int, type(None)}:
        return ANY
    if kinds == {type(None)}:
        return "None"
    return f"Literal[{', '.join('None' if value is None else quoted(value) for value in values)}]"


def _tags(schema: Any, depth: int = 0) -> dict[str, str]:
    if depth > MAX_DEPTH or not isinstance(schema, dict | list):
        return {}
    found: dict[str, str] = {}
    for inner in schema.values() if isinstance(schema, dict) else schema:
        found |= _tags(inner, depth + 1)
    discriminator = schema.get("discriminator") if isinstance(schema, dict) else None
    if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
        name, mapping = discriminator.get("propertyName"), discriminator["mapping"]
        if isinstance(name, str):
            found |= {each.removeprefix(REF): name for each in mapping.values() if isinstance(each, str)}
    return found
