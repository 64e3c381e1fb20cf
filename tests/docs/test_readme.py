from __future__ import annotations

from pathlib import Path

from resilient_rpc import errors
from tests.docs.blocks import README, blocks_of, rows_of
from tests.docs.runner import Reader


def test_the_readme_does_what_it_says(tmp_path: Path, amqp_url: str, service: str) -> None:
    with Reader(tmp_path, service=service, amqp_url=amqp_url) as reader:
        reader.follow(blocks_of(README))
    assert reader.outputs >= 3


def test_the_readme_says_of_each_error_what_its_class_says() -> None:
    rows = rows_of(README, "What a failed call tells you")
    assert rows
    for names, _, certainty in rows:
        for name in names.split(", "):
            kind = getattr(errors, name)
            assert certainty.startswith(kind.certainty.replace("_", " ")), name
