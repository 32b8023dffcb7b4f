"""What a log's reader tells in blocks, one mutation after the other."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from htapkit_cassandra.mutations import LogPosition, Mutation


def apart(told: Mutation) -> list[Mutation]:
    """Those that are told together, each with its own end."""
    found = [told] if not told.blocks else []
    for block in told.blocks:
        rows = zip(block.end.tolist(), block.writes(), strict=True)
        for end, of_one in groupby(rows, key=itemgetter(0)):
            position = LogPosition(told.position.segment, end)
            found.append(Mutation(tuple(row for _, row in of_one), position))
        assert found[-1].position == told.position
    return found
