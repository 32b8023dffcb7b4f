"""A hot store with a lake beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from htapkit.hot import HotStore
from tests.unit.htapkit.hot.lakes import PlainLake, opened


@pytest.fixture
def lake(tmp_path: Path) -> PlainLake:
    return PlainLake(tmp_path / "warehouse")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hot.duckdb"


@pytest.fixture
def store(path: Path, lake: PlainLake) -> Iterator[HotStore]:
    with opened(path, lake) as made:
        yield made
