"""What a service offers, as an OpenRPC document: names, types, safety, timeouts and errors."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from resilient_rpc.binder import Binder
from resilient_rpc.contract import Method, Methods

OPENRPC = "1.3.2"
"""The version of the format."""
DIGITS = 12
"""Of the version of a contract."""
PROSE = frozenset({"summary", "description"})
"""What may change without another version."""
_REF = "#/components/schemas/{name}"
_KINDS = inspect.Parameter


class Description(NamedTuple):
    """Of one service."""

    document: dict[str, Any]
    version: str
    """A hash of what calls depend on: servers of the same contract have the same one."""


def describe(methods: Methods) -> Description:
    """The document for the methods and errors that are registered. A type without a JSON schema is left open."""
    every = list(methods)
    schemas = _Schemas(_annotations(every))
    errors = {
        name: {"code": kind.code, "message": _summary(kind) or name, "data": {"type": name}}
        for name, kind in methods.errors.items()
    }
    described = [_method(each, schemas, errors) for each in every]
    components = {"schemas": schemas.components, "errors": errors}
    version = _hash([methods.service, described, components])
    info = {"title": methods.service, "version": version}
    return Description({"openrpc": OPENRPC, "info": info, "methods": described, "components": components}, version)


def _annotations(methods: Iterable[Method]) -> list[Any]:
    return [annotation for each in methods for annotation in _types_of(each.binder)]


def _types_of(binder: Binder) -> list[Any]:
    return [*(parameter.annotation for parameter in binder.parameters), binder.returns]


def _method(method: Method, schemas: _Schemas, errors: Mapping[str, Any]) -> dict[str, Any]:
    binder = method.binder
    parameters = binder.parameters
    described: dict[str, Any] = {"name": method.name, **_prose(method.function)}
    described["paramStructure"] = _structure(parameters)
    described["params"] = [
        {"name": p.name, "required": p.default is _KINDS.empty, "schema": schemas.of(p.annotation)}
        for p in sorted(parameters, key=lambda p: p.default is not _KINDS.empty)  # OpenRPC has those first
    ]
    described["result"] = {"name": "result", "schema": schemas.of(binder.returns)}
    if errors:
        described["errors"] = [{"$ref": f"#/components/errors/{name}"} for name in errors]
    if method.safety is not None:
        described["x-safety"] = method.safety.value
    if method.timeout is not None:
        described["x-timeout"] = method.timeout
    if binder.open:
        described["x-open"] = True
    return described


def _structure(parameters: Sequence[inspect.Parameter]) -> str:
    if any(p.kind is _KINDS.POSITIONAL_ONLY for p in parameters):
        return "by-position"
    return "by-name" if any(p.kind is _KINDS.KEYWORD_ONLY for p in parameters) else "either"


def _prose(function: Any) -> dict[str, str]:
    text = (inspect.getdoc(function) or "") if inspect.isroutine(function) else ""  # other objects: that of their class
    summary, _, rest = text.partition("\n")
    found = {"summary": summary.strip(), "description": rest.strip()}
    return {name: part for name, part in found.items() if part}


def _summary(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _hash(parts: Any) -> str:
    data = msgspec.json.encode(_without_prose(parts), order="deterministic")
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        # A property or a component may be called so; its value is a schema then, and prose is text.
        kept = {name: inner for name, inner in value.items() if name not in PROSE or not isinstance(inner, str)}
        return {name: _without_prose(inner) for name, inner in kept.items()}
    return [_without_prose(inner) for inner in value] if isinstance(value, list) else value


class _Schemas:
    """JSON schemas of types; those with a name stand among the components, and are referred to."""

    def __init__(self, annotations: Sequence[Any]) -> None:
        known = [each for each in _unique(annotations) if _has_schema(each)]
        made, components = _components(known)
        self._made = list(zip(known, made, strict=True))
        self.components = dict(sorted(components.items()))

    def of(self, annotation: Any) -> dict[str, Any]:
        """The schema of one of the types; of one that has none, that of anything."""
        return next((schema for known, schema in self._made if known == annotation), {})


def _unique(annotations: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for annotation in annotations:  # not a set: not everything that stands in an annotation has a hash
        if annotation not in found:
            found.append(annotation)
    return found


def _components(annotations: Sequence[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(annotations, schema_hook=_anything, ref_template=_REF)


def _anything(_: type[Any]) -> dict[str, Any]:
    return {}


def _has_schema(annotation: Any) -> bool:
    try:
        _components([annotation])
    except Exception:  # a user's type may raise anything while it is looked at
        return False
    return True
