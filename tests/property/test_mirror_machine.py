"""Random histories with crashes at every named place.

The copy always equals the source at its position.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from htapkit import failpoints
from tests.property.mirror_machine import CRASHES, DYING, MirrorMachine, ran, reached, run_machine


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    reached.clear()
    ran.clear()
    yield
    failpoints.arm(None)


@DYING
def test_random_histories_with_crashes() -> None:
    """A quick walk; the long one is below."""
    for _ in range(40):  # which rules a history has is left to chance
        run_machine(MirrorMachine, examples=12, steps=12, seed=random.randrange(2**32))
        if sum(reached.values()) >= 3:
            break
    assert sum(reached.values()) >= 3, f"too few crashes to say anything: {reached}"


@pytest.mark.long
@pytest.mark.timeout(1200)
@DYING
def test_long_random_histories_with_crashes() -> None:
    """Every failpoint at least ten times."""
    total: Counter[str] = Counter()
    for _ in range(100):
        run_machine(MirrorMachine, examples=15, steps=20, seed=random.randrange(2**32))
        total += reached
        if all(total[name] >= 10 for name in CRASHES):
            break
        reached.clear()
    print(f"crashes in all: {dict(total)}")
    assert all(total[name] >= 10 for name in CRASHES), total
