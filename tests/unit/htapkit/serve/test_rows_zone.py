"""What may be printed from text that is kept as it looks in UTC."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from htapkit.serve.pgwire.rows import WireColumn, encodable

TIMESTAMPTZ_ARRAY, TEXT_ARRAY, SOMEBODYS_COMPOSITE = 1185, 1009, 16400


@pytest.mark.parametrize(
    ("oid", "in_utc", "in_berlin"),
    [
        (TIMESTAMPTZ_ARRAY, True, False),
        (TEXT_ARRAY, True, True),
        # It may hold a timestamptz.
        (SOMEBODYS_COMPOSITE, True, False),
    ],
)
def test_text_that_depends_on_the_zone(oid: int, in_utc: bool, in_berlin: bool) -> None:
    """Sent for sessions in UTC only; others ask the source."""
    column = WireColumn(oid, -1, binary=False)
    assert encodable(pa.string(), column, UTC) is in_utc
    assert encodable(pa.string(), column, ZoneInfo("Europe/Berlin")) is in_berlin
