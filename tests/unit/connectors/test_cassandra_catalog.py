"""What became of a node's table since it was copied."""

from __future__ import annotations

import json
from dataclasses import replace

from htapkit.model import TableId, TableSchema
from htapkit.spi import Discovered
from htapkit_cassandra.catalog import Fingerprint, compare

_SCHEMA = TableSchema(TableId("events", "ks", "t"), (), ())


def test_an_older_copy_does_not_know_of_dropped_columns() -> None:
    """Nobody asked, so they are no reason to make it again."""
    before = Fingerprint("1", {}, ())
    now = Discovered(_SCHEMA, str(replace(before, dropped={"v": "2026-01-01"})))
    broken = compare(_SCHEMA, str(before), now)
    assert broken is not None
    assert "dropped and added again" in broken.why
    older = json.loads(str(before))
    del older["dropped"]
    assert compare(_SCHEMA, json.dumps(older), now) is None
