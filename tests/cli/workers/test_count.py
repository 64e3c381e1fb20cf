from __future__ import annotations

import pytest

from resilient_rpc.cli.workers.count import Count
from resilient_rpc.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "least", "most"), [("1", 1, 1), ("4", 4, 4), ("2..8", 2, 8), ("3..3", 3, 3), ("1..1000", 1, 1_000)]
)
def test_a_number_or_two(text: str, least: int, most: int) -> None:
    count = Count.parse(text)
    assert (count.least, count.most, count.varies) == (least, most, least != most)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0..4", "8..2", "1001", "1..1001", "-1", "two", "2..", "..2", "2...8", "2-8", "1.5", "٣", " 2", "2\n"],
)
def test_anything_else_is_refused_with_what_it_should_be(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--workers"):
        Count.parse(text)
