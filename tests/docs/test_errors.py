"""`errors.md`: compared with the code."""

from __future__ import annotations

import inspect
import textwrap

from resilient_rpc import RpcError, errors
from resilient_rpc.errors import CODES
from tests.docs.blocks import DOCS, blocks_of, rows_of

ERRORS = DOCS / "errors.md"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def test_the_tree_is_that_of_the_module() -> None:
    (tree,) = [block.body for block in blocks_of(ERRORS, "text") if block.title == "resilient_rpc.errors"]
    _, _, drawn = (errors.__doc__ or "").partition("::\n\n")
    assert tree.strip() == textwrap.dedent(drawn.partition("\n\n")[0]).strip()


def test_the_table_of_codes_is_that_of_the_module() -> None:
    expected = [
        [str(code), row.name, kind.__name__, str(kind.certainty), _yes(kind.retryable), _yes(kind.counted)]
        for code, row in CODES.items()
        for kind in [row.error]
    ]
    assert rows_of(ERRORS, "Codes on the wire") == expected


def _raised() -> set[str]:
    """The names of all errors but those that only group others."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, RpcError)]
    groups = {errors.RpcError, errors.TransportError, errors.ProtocolError}
    return {kind.__name__ for kind in kinds if kind not in groups}


def test_the_table_of_local_errors_says_what_the_classes_say() -> None:
    rows = rows_of(ERRORS, "Errors that never crossed the wire")
    for name, _, certainty, retryable, counted in rows:
        kind: type[RpcError] = getattr(errors, name)
        said = [str(kind.certainty), _yes(kind.retryable), _yes(kind.counted)]
        assert [certainty, retryable, counted] == said, name
    assert {row[0] for row in rows} == _raised() - {row.error.__name__ for row in CODES.values()}


def test_each_error_has_a_line_on_what_to_do() -> None:
    named = [name for row in rows_of(ERRORS, "What to do") for name in row[0].split(", ")]
    assert sorted(named) == sorted(_raised())
