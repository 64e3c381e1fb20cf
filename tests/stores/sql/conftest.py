from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.sql.databases import KINDS, Database, opened


@pytest.fixture(params=sorted(KINDS))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    yield from opened(request.param, tmp_path)
