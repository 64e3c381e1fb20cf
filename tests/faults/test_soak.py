"""A short soak with a fixed seed: every kind of fault, and nothing lost, done twice or left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak.report import lines_of
from tests.faults.soak.run import soak
from tests.faults.soak.schedule import LANES

SECONDS = 20.0


@pytest.mark.broker
@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections to a broker that was killed in between
def test_calls_survive_all_faults_with_one_effect_and_one_answer_for_each_key(tmp_path: Path) -> None:
    result = soak(1, SECONDS, tmp_path)

    print("\n".join(lines_of(result.account)))
    assert result.account.bad == []
    assert result.account.acknowledged > 100
    assert set(result.struck) == {kind for kinds in LANES.values() for kind in kinds}
