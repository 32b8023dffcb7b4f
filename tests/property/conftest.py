"""What the tests of tiered cells share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.property.tiered_cells import Copy


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """Of nothing."""
    made = Copy(tmp_path)
    yield made
    made.close()
