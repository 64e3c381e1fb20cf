"""Short soaks with a fixed seed: every kind of fault, and nothing lost, done twice or left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak.keyed import Keyed
from tests.faults.soak.links import Links
from tests.faults.soak.mix import Mix, Result
from tests.faults.soak.report import lines_of
from tests.faults.soak.run import soak

pytestmark = [
    pytest.mark.broker,
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of connections to a broker that was killed in between
]


def accounted(mix: type[Mix], seed: int, seconds: float, folder: Path) -> Result:
    """Run it, and see to it that every kind of fault was there."""
    result = soak(seed, seconds, folder, mix)
    print("\n".join(lines_of(result.account, keyed=mix.keyed)))
    assert set(result.struck) == {kind for kinds in mix.lanes.values() for kind in kinds}
    return result


def test_calls_survive_all_faults_with_one_effect_and_one_answer_for_each_key(tmp_path: Path) -> None:
    account = accounted(Keyed, 1, 20.0, tmp_path).account

    assert account.bad == []
    assert account.acknowledged > 100


def test_plain_calls_survive_all_faults_of_links_and_messages(tmp_path: Path) -> None:
    account = accounted(Links, 2, 15.0, tmp_path).account

    assert account.bad == []
    assert account.acknowledged > 100
