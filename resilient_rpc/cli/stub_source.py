"""The source of a typed contract, from the description of a service. The same description gives the same text."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from typing import Any

from resilient_rpc.call import Safety
from resilient_rpc.cli.stub_types import ANY, Types, identifier, mapping, quoted, title
from resilient_rpc.names import is_name
from resilient_rpc.settings import MAX_TIMEOUT

WIDTH = 110
_UNFIT = re.compile(r'["\\\x00-\x1f]')
"""No field of a message can be called so."""
MODULES = ("datetime", "decimal", "uuid")
OURS = {"ApplicationError", "Contract", "RemoteError", "remote"}
RESERVED = {"Any", "ERRORS", "Literal", "Protocol", "msgspec", *MODULES, *OURS}
"""Names that the source uses itself."""
ANNOTATED = {"bool", "bytes", "dict", "float", "int", "list", "set", "str", "tuple", *RESERVED}
"""What annotations are made of: a member of a class that is called so would stand in their way."""
DEFAULTS: dict[str, type[Any]] = {"str": str, "int": int, "bool": bool, "float": float}


def source(document: Mapping[str, Any], *, service: str, awaits: bool = False) -> str:
    """A module with a `Protocol` of the service's methods, its types, and its errors. `awaits`: for `AsyncClient`."""
    components = mapping(document.get("components"))
    contract = identifier(title(service) or service, taken=RESERVED)
    errors = _errors(mapping(components.get("errors")), taken={*RESERVED, contract})
    types = Types(document, {*RESERVED, contract, *errors.values()})
    version = mapping(document.get("info")).get("version")
    classes = [_class(name, called, types) for name, called in types.classes.items()]
    faults = [_error(name, called, components["errors"][name]) for name, called in errors.items()]
    if errors:
        faults.append(f"ERRORS: list[type[RemoteError]] = [{', '.join(errors.values())}]\n")
    body = "\n\n".join([*classes, *faults, _contract(contract, document.get("methods"), types, awaits=awaits)])
    head = f'"""The service {_text(service)}, version {_text(version)}; written by `resilient-rpc stub`."""\n'
    return f"{head}\nfrom __future__ import annotations\n\n{_imports(body)}\n\n{body}"


def types_of(document: Mapping[str, Any]) -> Types:
    """The types of a description, where nothing else has a name."""
    return Types(document, RESERVED)


def _imports(body: str) -> str:
    plain = [f"import {name}\n" for name in MODULES if f"{name}." in body]
    typing = [name for name in ("Any", "Literal", "Protocol") if _uses(body, name)]
    ours = sorted(name for name in OURS if _uses(body, name))
    blocks = [
        "".join(plain) + f"from typing import {', '.join(typing)}\n",
        "import msgspec\n" if "msgspec." in body else "",
        f"from resilient_rpc import {', '.join(ours)}\n",
    ]
    return "\n".join(block for block in blocks if block)


def _uses(body: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", body) is not None


def _class(name: str, called: str, types: Types) -> str:
    schema, tag = types.schemas[name], types.tags.get(name)
    listed = schema.get("required")
    required = listed if isinstance(listed, list) else []
    how, fields, taken = ["kw_only=True"], [], {*ANNOTATED, *types.classes.values()}
    for field, inner in schema["properties"].items():
        if field == tag and (value := _single(inner)) is not None:
            how += [f"tag_field={quoted(field)}", f"tag={quoted(value)}"]
            continue
        if _UNFIT.search(field):
            continue
        attribute = identifier(field, taken=taken)
        taken.add(attribute)
        fields.append(f"    {attribute}: {_field(field, attribute, inner, field in required, types)}\n")
    said = _docstring(schema.get("description"))
    lines = [*said, *(["\n"] if said and fields else []), *fields] or ["    pass\n"]
    return f"class {called}(msgspec.Struct, {', '.join(how)}):\n{''.join(lines)}"


def _single(schema: Any) -> Any:
    values = schema.get("enum") if isinstance(schema, dict) else None
    if isinstance(values, list) and len(values) == 1 and type(values[0]) in {str, int}:
        return values[0]
    return None


def _field(field: str, attribute: str, schema: Any, required: bool, types: Types) -> str:
    type_ = types.of(schema)
    settings = [f"name={quoted(field)}"] if attribute != field else []
    if not required:
        default = _default(schema, type_)
        if default is None:
            type_, default = f"{type_} | msgspec.UnsetType", "default=msgspec.UNSET"
        settings.insert(0, default)
    if not settings:
        return type_
    (first, *more) = settings
    plain = first.removeprefix("default=") if not more and first.startswith("default=") else ""
    return f"{type_} = {plain or 'msgspec.field(' + ', '.join(settings) + ')'}"


def _default(schema: Any, type_: str) -> str | None:
    """As far as it can be written down and is of the type; None: it is left out, and the server fills it in."""
    if not isinstance(schema, dict) or "default" not in schema:
        return None
    value: Any = schema["default"]
    if value is None and (type_ == "None" or type_.endswith("| None")):
        return "default=None"
    kind = DEFAULTS.get(type_.removesuffix(" | None"))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if kind is not None and (type(value) is kind or (kind is float and type(value) is int)):
        return f"default={quoted(value)}"
    if value in ([], {}) and type_.startswith("list[" if value == [] else "dict["):
        return f"default_factory={type(value).__name__}"
    return None


def _errors(errors: Mapping[str, Any], taken: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(filter(is_name, errors)):
        found[name] = identifier(title(name), taken={*taken, *found.values()})
    return found


def _error(name: str, called: str, error: Any) -> str:
    said = _docstring(mapping(error).get("message") if mapping(error).get("message") != name else None)
    said += ["\n"] if said else []
    return f"class {called}(ApplicationError):\n{''.join(said)}    type = {quoted(name)}\n"


def _contract(called: str, methods: Any, types: Types, *, awaits: bool) -> str:
    described = [each for each in methods if isinstance(each, dict)] if isinstance(methods, list) else []
    named = {each["name"]: each for each in described if is_name(each.get("name"))}
    written: list[str] = []
    taken = {"with_", *ANNOTATED, *types.classes.values()}
    for name in sorted(named):
        attribute = identifier(name, taken=taken)
        taken.add(attribute)
        written.append(_method(name, attribute, named[name], types, awaits=awaits))
    return f"class {called}(Contract, Protocol):\n" + "\n".join(written or ["    pass\n"])


def _method(name: str, attribute: str, method: Mapping[str, Any], types: Types, *, awaits: bool) -> str:
    result = types.of(mapping(method.get("result")).get("schema"))
    parameters = ["self", *parameters_of(method, types)]
    opening = f"    {'async ' if awaits else ''}def {attribute}("
    line = f"{opening}{', '.join(parameters)}) -> {result}:"
    if len(line) > WIDTH:
        inside = "".join(f"        {each},\n" for each in parameters)
        line = f"{opening}\n{inside}    ) -> {result}:"
    said = _docstring(method.get("summary"), indent=8)
    end = f"{line}\n{''.join(said)}        ...\n" if said else f"{line} ...\n"
    return _terms(name, attribute, method) + end


def _terms(name: str, attribute: str, method: Mapping[str, Any]) -> str:
    safety, timeout = method.get("x-safety"), method.get("x-timeout")
    terms = [f"name={quoted(name)}"] if name != attribute else []
    if isinstance(safety, str) and safety in [*Safety]:
        terms.append(f"safety={quoted(safety)}")
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout <= MAX_TIMEOUT:
        terms.append(f"timeout={timeout!r}")
    return f"    @remote({', '.join(terms)})\n" if terms else ""


def parameters_of(method: Mapping[str, Any], types: Types) -> list[str]:
    """The parameters of a method that is described, as they stand in its signature."""
    given = method.get("params")
    params = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    names = [each.get("name") for each in params]
    if not all(_is_plain(name) for name in names) or len(set(names)) < len(names):
        return [f"**arguments: {ANY}"]
    written = [_parameter(each, types) for each in params]
    structure, is_open = method.get("paramStructure"), method.get("x-open") is True
    if structure == "by-position":
        return [*written, *(["/"] if written else []), *([f"*more: {ANY}"] if is_open else [])]
    bare = ["*"] if structure == "by-name" and written else []
    return [*bare, *written, *([f"**more: {ANY}"] if is_open else [])]


def _parameter(param: Mapping[str, Any], types: Types) -> str:
    written = f"{param['name']}: {types.of(param.get('schema'))}"
    return written if param.get("required") is True else f"{written} = ..."


def _is_plain(name: Any) -> bool:
    reserved = {"self", "more", "arguments"}
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and name not in reserved


def _docstring(text: Any, *, indent: int = 4) -> list[str]:
    said = _text(text)
    return [f'{" " * indent}"""{said}"""\n'] if said else []


def _text(value: Any) -> str:
    """What of it can stand between quotes: one line, and nothing that would end them."""
    line = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(each for each in line if each.isprintable()).replace("\\", "/").replace('"', "'")[:WIDTH]
