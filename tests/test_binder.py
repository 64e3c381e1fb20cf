from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.errors import ConfigurationError, InvalidParams
from resilient_rpc.wire.codec import CODECS, JSON, MSGPACK, Codec

both = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
CONTEXT = Context(method="m", deadline=1.0, safety=Safety.UNSAFE)
NONE = object()


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclasses.dataclass
class Box:
    size: int
    label: str = "none"


class Pair(NamedTuple):
    a: int
    b: str


class Options(TypedDict, total=False):
    fast: bool


class Even(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        if self.value % 2:
            raise ValueError("odd")


class Strange(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        raise KeyError("of its own")


def made(function: Callable[..., Any]) -> Binder:
    binder = Binder(function, Context)
    for codec in CODECS.values():
        binder.prepare(codec)
    return binder


def call(function: Callable[..., Any], params: Any = NONE, codec: Codec = JSON) -> Any:
    """As the server does it."""
    binder = made(function)
    arguments = binder.bind(codec, b"" if params is NONE else codec.encode(params))
    if binder.context_name is not None:
        arguments = binder.give_context(arguments, CONTEXT)
    args, kwargs = arguments
    return function(*args, **kwargs)


def refused(function: Callable[..., Any], params: Any = NONE, codec: Codec = JSON) -> str:
    with pytest.raises(InvalidParams) as caught:
        call(function, params, codec)
    return str(caught.value)


# -- signatures


def plain(a: int, b: str = "b", c: float = 1.5) -> Any:
    return a, b, c


def keyword_only(a: int, *, b: int, c: int = 3) -> Any:
    return a, b, c


def positional_only(a: int, b: int = 2, /, c: int = 3) -> Any:
    return a, b, c


def star(a: int, *rest: int) -> Any:
    return a, rest


def double_star(a: int, **more: Any) -> Any:
    return a, more


def everything(a: int, /, b: int = 2, *rest: Any, c: int = 3, **more: Any) -> Any:
    return a, b, rest, c, more


def nothing() -> Any:
    return "called"


def untyped(a, b=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return a, b


@pytest.mark.parametrize(
    ("function", "params", "result"),
    [
        (plain, [1], (1, "b", 1.5)),
        (plain, [1, "x"], (1, "x", 1.5)),
        (plain, [1, "x", 2], (1, "x", 2.0)),
        (plain, {"a": 1}, (1, "b", 1.5)),
        (plain, {"c": 2.5, "a": 1}, (1, "b", 2.5)),
        (keyword_only, {"a": 1, "b": 2}, (1, 2, 3)),
        (positional_only, [1], (1, 2, 3)),
        (positional_only, [1, 5, 6], (1, 5, 6)),
        (star, [1], (1, ())),
        (star, [1, 2, 3], (1, (2, 3))),
        (star, {"a": 1}, (1, ())),
        (double_star, {"a": 1, "z": [2]}, (1, {"z": [2]})),
        (double_star, [1], (1, {})),
        (everything, [1, 5, 6, 7], (1, 5, (6, 7), 3, {})),
        (nothing, NONE, "called"),
        (nothing, [], "called"),
        (nothing, {}, "called"),
        (untyped, [{"x": 1}], ({"x": 1}, None)),
        (untyped, {"a": 1, "b": [2]}, (1, [2])),
    ],
)
@both
def test_arguments_arrive_where_the_signature_has_them(
    codec: Codec, function: Callable[..., Any], params: Any, result: Any
) -> None:
    assert call(function, params, codec) == result


@pytest.mark.parametrize(
    ("function", "params", "said"),
    [
        (plain, NONE, "`a`"),
        (plain, [], "at least length 1"),
        (plain, {}, "`a`"),
        (plain, {"a": "x"}, r"$.a"),
        (plain, ["x"], r"$[0]"),
        (plain, {"a": 1, "d": 1}, "`d`"),
        (plain, [1, "b", 1.0, 4], "at most length 3"),
        (plain, {"a": True}, r"$.a"),
        (plain, {"a": 1.5}, r"$.a"),
        (plain, {"a": None}, r"$.a"),
        (plain, {"a": 1, "b": None}, r"$.b"),
        (keyword_only, [1, 2], ""),
        (keyword_only, {"a": 1}, "`b`"),
        (positional_only, {"a": 1}, "`a`"),
        (positional_only, {"c": 1}, "'a' can only be given by position"),
        (star, [], "a"),
        (star, ["x"], "a"),
        (star, {"a": 1, "b": 2}, "b"),
        (double_star, {"a": "x"}, "a"),
        (double_star, [1, 2], ""),
        (everything, {"a": 1}, ""),
        (nothing, [1], ""),
        (nothing, {"a": 1}, "`a`"),
        (nothing, None, ""),
        (nothing, 5, ""),
        (nothing, "text", ""),
        (nothing, True, ""),
        (nothing, 1.5, ""),
        (nothing, 32, ""),  # in MessagePack these are a byte that is a space or a line feed
        (nothing, 10, ""),
        (plain, 9, ""),
        (star, 13, ""),
        (star, None, ""),
        (double_star, "x", ""),
    ],
)
@both
def test_what_does_not_fit_is_refused_and_named(
    codec: Codec, function: Callable[..., Any], params: Any, said: str
) -> None:
    assert said in refused(function, params, codec)


@pytest.mark.parametrize(
    "data", [b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b'["\\ud800"]', b'{"a":"\xff"}', b" ", b"\n"]
)
@pytest.mark.parametrize("function", [plain, everything, nothing, untyped])
@both
def test_bytes_that_are_nothing_are_refused(codec: Codec, function: Callable[..., Any], data: bytes) -> None:
    with pytest.raises(InvalidParams):
        made(function).bind(codec, data)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for function in (plain, everything, untyped, shapes, star):
        binder = made(function)
        for codec in CODECS.values():
            try:
                args, kwargs = binder.bind(codec, data)
            except InvalidParams:
                continue
            assert isinstance(args, tuple)
            assert isinstance(kwargs, dict)


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"boxes": [{"size": 1}, {"size": "x"}]}, "$.boxes[1].size"),
        ({"boxes": {}}, "$.boxes"),
        ({"boxes": [{"size": 1}], "by_name": {"k": [1, "x"]}}, "$.by_name[...][1]"),
    ],
)
@both
def test_the_path_of_the_bad_argument_is_named(codec: Codec, params: Any, path: str) -> None:
    def shelve(boxes: list[Box], by_name: dict[str, list[int]] | None = None) -> None:
        raise AssertionError

    assert path in refused(shelve, params, codec)


@both
def test_the_bad_argument_is_named_in_an_open_signature_too(codec: Codec) -> None:
    def shelve(boxes: list[Box], *more: Any, **others: Any) -> None:
        raise AssertionError

    said = refused(shelve, {"boxes": [{"size": "x"}]}, codec)
    assert "boxes" in said
    assert "[0].size" in said


# -- types


def shapes(
    when: dt.datetime | None = None,
    day: dt.date | None = None,
    span: dt.timedelta | None = None,
    id_: uuid.UUID | None = None,
    amount: Decimal | None = None,
    colour: Colour | None = None,
    level: Level | None = None,
    point: Point | None = None,
    box: Box | None = None,
    pair: Pair | None = None,
    options: Options | None = None,
    tags: set[str] | None = None,
    numbers: tuple[int, ...] | None = None,
    table: dict[int, Point] | None = None,
    mode: Literal["r", "w"] | None = None,
    data: bytes | None = None,
    count: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None,
) -> dict[str, Any]:
    return {name: value for name, value in locals().items() if value is not None}


SHAPES: dict[str, Any] = {
    "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "day": dt.date(2026, 1, 2),
    "span": dt.timedelta(hours=1),
    "id_": uuid.UUID(int=5),
    "amount": Decimal("1.10"),
    "colour": Colour.RED,
    "level": Level.LOW,
    "point": Point(1, 2),
    "box": Box(3),
    "pair": Pair(1, "b"),
    "options": {"fast": True},
    "tags": {"a"},
    "numbers": (1, 2),
    "table": {1: Point(1)},
    "mode": "r",
    "data": b"\x00\xff",
    "count": 10,
}


@pytest.mark.parametrize("name", SHAPES)
@both
def test_an_argument_is_converted_to_its_annotation(codec: Codec, name: str) -> None:
    found = call(shapes, {name: SHAPES[name]}, codec)
    assert found == {name: SHAPES[name]}
    assert type(found[name]) is type(SHAPES[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("when", "yesterday"), ("day", "2026-13-01"), ("id_", "5"), ("colour", "blue"), ("level", 2), ("point", {}),
        ("box", []), ("pair", [1]), ("tags", [1]), ("mode", "x"), ("count", 0), ("count", 11), ("amount", "much"),
    ],
)  # fmt: skip
@both
def test_a_value_that_is_none_of_its_type_is_refused_with_its_name(codec: Codec, name: str, value: Any) -> None:
    assert f"$.{name}" in refused(shapes, {name: value}, codec)


@both
def test_in_an_open_signature_named_arguments_are_converted_too(codec: Codec) -> None:
    def opened(when: dt.datetime, table: dict[int, Point], *rest: Any, **more: Any) -> Any:
        return when, table, more

    params = {"when": SHAPES["when"], "table": {1: Point(1)}, "z": 1}
    assert call(opened, params, codec) == (SHAPES["when"], {1: Point(1)}, {"z": 1})


def test_a_type_with_a_check_of_its_own_refuses() -> None:
    def take(even: Even) -> int:
        return even.value

    assert call(take, {"even": {"value": 2}}) == 2
    assert "odd" in refused(take, {"even": {"value": 3}})
    assert "odd" in refused(take, [{"value": 3}])


@pytest.mark.parametrize("params", [{"strange": {"value": 1}}, [{"value": 1}]])
def test_a_type_whose_check_fails_in_a_way_of_its_own_refuses_too(params: Any) -> None:
    def take(strange: Strange) -> None: ...

    def opened(strange: Strange, *rest: Any) -> None: ...

    refused(take, params)
    refused(opened, params)


def test_defaults_are_the_functions_own_and_need_no_form_on_the_wire() -> None:
    marker = object()

    def take(a: int = marker, b: Any = marker) -> Any:  # type: ignore[assignment]
        return a is marker, b is marker

    assert call(take) == (True, True)
    assert call(take, {"b": None}) == (True, False)


def test_parameters_may_have_any_name() -> None:
    def take(self: int, cls: int, _private: int, __dunder__: int, type: int, args: int) -> Any:  # noqa: A002
        return self, cls, _private, __dunder__, type, args

    names = ("self", "cls", "_private", "__dunder__", "type", "args")
    assert call(take, {name: n for n, name in enumerate(names)}) == (0, 1, 2, 3, 4, 5)


# -- the context


def context_first(ctx: Context, a: int, b: int = 2) -> Any:
    return ctx, a, b


def context_last(a: int, b: int = 2, ctx: Context | None = None) -> Any:
    return ctx, a, b


def context_between(a: int, ctx: Context, b: int = 2) -> Any:
    return ctx, a, b


def context_after_default(a: int, b: int = 2, ctx: Context = CONTEXT) -> Any:
    return ctx, a, b


def context_keyword(a: int, b: int = 2, *, ctx: Context) -> Any:
    return ctx, a, b


def context_positional(ctx: Context, /, a: int, b: int = 2) -> Any:
    return ctx, a, b


def context_open(ctx: Context, a: int, b: int = 2, *rest: Any, **more: Any) -> Any:
    return ctx, a, b


def context_open_last(a: int, b: int = 2, *rest: Any, ctx: Context, **more: Any) -> Any:
    return ctx, a, b


def context_quoted(ctx: "Context", a: int, b: int = 2) -> Any:  # noqa: UP037
    return ctx, a, b


def context_annotated(ctx: Annotated[Context, "the call"], a: int, b: int = 2) -> Any:
    return ctx, a, b


def context_optional(ctx: Optional[Context], a: int, b: int = 2) -> Any:  # noqa: UP045
    return ctx, a, b


@pytest.mark.parametrize(
    "function",
    [
        context_first, context_last, context_between, context_after_default, context_keyword, context_positional,
        context_open, context_open_last, context_quoted, context_annotated, context_optional,
    ],
)  # fmt: skip
@pytest.mark.parametrize("params", [[1], [1, 5], {"a": 1}, {"a": 1, "b": 5}])
@both
def test_the_context_is_given_wherever_it_stands(codec: Codec, function: Callable[..., Any], params: Any) -> None:
    assert call(function, params, codec) == (CONTEXT, 1, 5 if len(params) == 2 else 2)


@pytest.mark.parametrize("function", [context_first, context_last, context_keyword, context_open, context_positional])
@both
def test_no_caller_can_give_the_context(codec: Codec, function: Callable[..., Any]) -> None:
    refused_or_other = made(function)
    name = refused_or_other.context_name
    assert name == "ctx"
    try:
        found = call(function, {"a": 1, "ctx": {"deadline": 0}}, codec)
    except InvalidParams:
        return
    assert found[0] is CONTEXT


def test_the_context_alone_needs_no_arguments() -> None:
    def take(ctx: Context) -> Any:
        return ctx

    assert call(take) is CONTEXT
    assert call(take, []) is CONTEXT
    assert call(take, {}) is CONTEXT


def test_a_container_of_contexts_is_an_argument_like_any_other() -> None:
    def take(a: list[int], ctx: Context) -> Any:
        return a, ctx

    assert call(take, {"a": [1]}) == ([1], CONTEXT)
    assert Binder(lambda a: a, Context).context_name is None


# -- what can be registered


class Shop:
    def price(self, sku: str, qty: int = 1) -> Any:
        return sku, qty

    @staticmethod
    def static(sku: str, qty: int = 1) -> Any:
        return sku, qty

    @classmethod
    def klass(cls, sku: str, qty: int = 1) -> Any:
        return sku, qty

    def __call__(self, sku: str, qty: int = 1) -> Any:
        return sku, qty

    async def later(self, sku: str, qty: int = 1) -> Any:
        return sku, qty


def with_prefix(prefix: str, sku: str, qty: int = 1) -> Any:
    return sku, qty


@functools.wraps(with_prefix)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return with_prefix(*args, **kwargs)[:2]


@pytest.mark.parametrize(
    "function",
    [
        Shop().price, Shop.static, Shop().static, Shop.klass, Shop(), functools.partial(with_prefix, "p"),
        functools.partial(Shop().price), functools.partial(functools.partial(with_prefix), "p"),
    ],
    ids=range(8),
)  # fmt: skip
def test_whatever_can_be_called_can_be_registered_with_its_types(function: Callable[..., Any]) -> None:
    assert call(function, {"sku": "A"}) == ("A", 1)
    assert call(function, ["A", 3]) == ("A", 3)
    assert "$.qty" in refused(function, {"sku": "A", "qty": "x"})
    assert "$.sku" in refused(function, {"sku": 1})


def test_a_partial_that_fixes_a_later_argument_leaves_it_open_by_name() -> None:
    function = functools.partial(plain, b="fixed")
    assert call(function, {"a": 1}) == (1, "fixed", 1.5)
    assert call(function, [1]) == (1, "fixed", 1.5)
    assert call(function, {"a": 1, "b": "x"}) == (1, "x", 1.5)


def test_a_staticmethod_object_can_be_registered() -> None:
    assert call(staticmethod(plain), {"a": 1}) == (1, "b", 1.5)
    assert "$.a" in refused(staticmethod(plain), {"a": "x"})


def test_a_decorated_function_has_the_signature_of_what_it_wraps() -> None:
    assert call(wrapped, {"prefix": "p", "sku": "A"}) == ("A", 1)
    assert "$.sku" in refused(wrapped, {"prefix": "p", "sku": 1})


def test_a_class_can_be_registered_as_what_makes_it() -> None:
    assert call(Box, {"size": 2}) == Box(2)
    assert "$.size" in refused(Box, {"size": "x"})


def test_a_signature_that_cannot_be_read_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        made(dict)
    with pytest.raises(ConfigurationError):
        made("not callable")  # type: ignore[arg-type]


def test_an_annotation_that_names_nothing_is_a_configuration_error() -> None:
    def bad(a: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match="NoSuchType"):
        made(bad)


@pytest.mark.parametrize(
    "annotation", [Callable[..., Any] | dict[str, int], dict[str, int] | dict[int, int], Point | Box]
)
def test_an_annotation_that_cannot_be_decoded_is_a_configuration_error(annotation: Any) -> None:
    def bad(a: Any) -> None: ...

    bad.__annotations__["a"] = annotation
    with pytest.raises(ConfigurationError):
        made(bad)

    def opened(a: Any, *rest: Any) -> None: ...

    opened.__annotations__["a"] = annotation
    with pytest.raises(ConfigurationError):
        made(opened)


def test_a_signature_that_no_struct_can_hold_is_a_configuration_error() -> None:
    def bad(a: Any) -> None: ...

    bad.__annotations__["a"] = Annotated[int, msgspec.Meta(min_length=1)]
    with pytest.raises(ConfigurationError):
        made(bad)


@both
def test_positional_only_parameters_may_all_have_defaults(codec: Codec) -> None:
    def take(a: int = 1, /, b: int = 2) -> Any:
        return a, b

    assert call(take, {"b": 5}, codec) == (1, 5)
    assert call(take, {}, codec) == (1, 2)
    assert call(take, [7], codec) == (7, 2)
