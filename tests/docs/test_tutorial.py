from __future__ import annotations

import itertools
from pathlib import Path

from tests.docs.blocks import DOCS, Block, blocks_of
from tests.docs.runner import Reader

TUTORIAL = [*blocks_of(DOCS / "tutorial.md"), *blocks_of(DOCS / "tutorial-servers.md")]


def _without_a_broker(block: Block) -> bool:
    return "amqp://" not in block.body


def test_the_tutorial_in_memory(tmp_path: Path, service: str) -> None:
    blocks = list(itertools.takewhile(_without_a_broker, TUTORIAL))
    with Reader(tmp_path, service=service) as reader:
        reader.follow(blocks)
    assert reader.outputs >= 7


def test_the_tutorial_over_rabbitmq_prints_the_same(tmp_path: Path, amqp_url: str, service: str) -> None:
    with Reader(tmp_path, service=service, amqp_url=amqp_url, url=amqp_url) as reader:
        reader.follow(TUTORIAL)
    assert reader.outputs >= 9
