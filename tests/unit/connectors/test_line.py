"""The line of a server's history: what is stored of it, and which lines go on as which."""

from __future__ import annotations

import pytest

from htapkit_postgres.line import Identity, Line, parse_identity

ONE = Line(1)
TWO = Line(2, ((1, 0x500),))
OTHER_TWO = Line(2, ((1, 0x400),))
THREE = Line(3, ((1, 0x500), (2, 0x900)))


@pytest.mark.parametrize(
    ("known", "now", "position", "goes_on"),
    [
        (ONE, ONE, 0x700, True),
        (ONE, TWO, 0x499, True),
        (ONE, TWO, 0x500, True),  # all that was copied is before the fork
        (ONE, TWO, 0x501, False),
        (ONE, THREE, 0x500, True),
        (ONE, THREE, 0x600, False),  # on 2, which we never saw, and 1 had another 0x600
        (TWO, THREE, 0x900, True),
        (TWO, THREE, 0x901, False),
        (TWO, TWO, 0xFFFF, True),
        (TWO, OTHER_TWO, 0x300, False),  # the same number, and another history
        (TWO, ONE, 0x300, False),
        (THREE, TWO, 0x300, False),
        (TWO, Line(3, ((1, 0x500),)), 0x300, False),  # back to 1, and off again
    ],
)
def test_which_line_goes_on(known: Line, now: Line, position: int, goes_on: bool) -> None:
    """A promotion goes on; what was put back before our position does not."""
    assert known.goes_on_as(now, position) is goes_on


@pytest.mark.parametrize("database", ["shop", "a/b@1,2", "n\nl", ""])
@pytest.mark.parametrize("line", [None, ONE, THREE])
def test_an_identity_is_stored_and_read(line: Line | None, database: str) -> None:
    """Whatever the database is called; without a line it is as once before there were any."""
    identity = Identity("7300000000000000001", database, line)
    assert parse_identity(str(identity)) == identity
    assert parse_identity("shop") is None
    assert identity.name == f"7300000000000000001/{database}"
