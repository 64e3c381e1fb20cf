"""From the JSON schema of a result to what makes values of it: texts in a format become what they stand for.

Lossless and lenient: nothing is dropped or refused, and a text that is not in its format stays a text.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Convert = Callable[[Any], Any]
FORMATS: Mapping[str, type[Any]] = {
    "date-time": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "duration": dt.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
"""What `format` says of a text."""
REF = "#/components/schemas/"
MAX_DEPTH = 64
"""Of schemas in schemas; what stands deeper is left alone."""


def converter(schema: Any, schemas: Mapping[str, Any]) -> Convert | None:
    """What converts a value of the schema; None: there is nothing to convert. `schemas`: what it may refer to."""
    return _Compiler(schemas).compile(schema, 0)


class _Compiler:
    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._named: dict[str, _Named] = {}

    def compile(self, schema: Any, depth: int) -> Convert | None:
        name, schema = self._resolved(schema)
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return None
        return self._made(schema, depth) if name is None else self._known(name, schema, depth)

    def _resolved(self, schema: Any) -> tuple[str | None, Any]:
        """The schema that is referred to, and its name; None for what only ever refers to others."""
        name = None
        for _ in range(MAX_DEPTH):
            reference = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(reference, str):
                return name, schema
            name = reference.removeprefix(REF)
            schema = self._schemas.get(name)
        return None, None

    def _known(self, name: str, schema: dict[str, Any], depth: int) -> Convert | None:
        """A schema may stand in itself: whether there is anything to convert is known once it is compiled."""
        known = self._named.get(name)
        if known is None:
            known = self._named[name] = _Named()
            known.convert = self._made(schema, depth + 1)
            known.open = False
        return known if known.open or known.convert is not None else None

    def _made(self, schema: dict[str, Any], depth: int) -> Convert | None:
        if isinstance(schema.get("anyOf"), list):
            return self._any_of(schema["anyOf"], depth)
        match schema.get("type"):
            case "string":
                return _text(schema)
            case "array":
                return self._array(schema, depth)
            case "object":
                return self._object(schema, depth)
        return None

    def _any_of(self, variants: list[Any], depth: int) -> Convert | None:
        """By the kind of the value, as far as only one variant is of that kind."""
        by_kind: dict[type[Any], list[Convert | None]] = {str: [], list: [], dict: []}
        for variant in variants:
            kind = self._kind(variant)
            if kind in by_kind:
                by_kind[kind].append(self.compile(variant, depth + 1))
        chosen = {kind: found[0] for kind, found in by_kind.items() if len(found) == 1 and found[0] is not None}
        if not chosen:
            return None

        def convert(value: Any) -> Any:
            apply = chosen.get(type(value))
            return value if apply is None else apply(value)

        return convert

    def _kind(self, schema: Any) -> type[Any] | None:
        _, found = self._resolved(schema)
        name = found.get("type") if isinstance(found, dict) else None
        return {"string": str, "array": list, "object": dict}.get(name) if isinstance(name, str) else None

    def _array(self, schema: dict[str, Any], depth: int) -> Convert | None:
        first = schema.get("prefixItems")
        firsts = [self.compile(each, depth + 1) for each in first] if isinstance(first, list) else []
        rest = self.compile(schema.get("items"), depth + 1)
        if rest is None and not any(firsts):
            return None

        def convert(value: Any) -> Any:
            if type(value) is list:
                for at, inner in enumerate(value):
                    apply = firsts[at] if at < len(firsts) else rest
                    if apply is not None:
                        value[at] = apply(inner)
            return value

        return convert

    def _object(self, schema: dict[str, Any], depth: int) -> Convert | None:
        named = schema.get("properties")
        fields = (
            {name: self.compile(each, depth + 1) for name, each in named.items()} if isinstance(named, dict) else {}
        )
        known = {name: apply for name, apply in fields.items() if apply is not None}
        rest = self.compile(schema.get("additionalProperties"), depth + 1)
        if rest is None and not known:
            return None

        def convert(value: Any) -> Any:
            if type(value) is dict:
                for name, inner in value.items():
                    apply = known.get(name) if name in fields else rest
                    if apply is not None:
                        value[name] = apply(inner)
            return value

        return convert


class _Named:
    """The converter of a schema with a name, which may stand in itself."""

    def __init__(self) -> None:
        self.convert: Convert | None = None
        self.open = True

    def __call__(self, value: Any) -> Any:
        return value if self.convert is None else self.convert(value)


def _text(schema: Mapping[str, Any]) -> Convert | None:
    kind = FORMATS.get(str(schema.get("format")))
    if kind is None and schema.get("contentEncoding") == "base64":
        kind = bytes
    if kind is None:
        return None
    type_ = kind

    def convert(value: Any) -> Any:
        if type(value) is not str:  # MessagePack has types of its own for some of these
            return value
        try:
            return msgspec.convert(value, type_)
        except msgspec.ValidationError:
            return value

    return convert
