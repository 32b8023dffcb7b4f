"""When the source is told to forget: over the limit and growing, never in a burst that ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from htapkit.ingest.retained import Retained
from htapkit.ingest.status import SourceReport, SourceState, TableReport


def _looks(made: Retained, sizes: list[int], *, caught_up: bool = True) -> list[int]:
    """The seconds at which it lets go; one look a second."""
    return [at for at, size in enumerate(sizes) if made.look(size, float(at), caught_up=caught_up)]


def test_over_the_limit_and_growing() -> None:
    """After the grace, once; then the count begins anew."""
    assert _looks(Retained(100, 5), list(range(90, 112))) == [16]


def test_a_burst_that_is_caught_up_with_is_left_alone() -> None:
    """Over the limit for long, but shrinking; or under it in between."""
    assert _looks(Retained(100, 5), [50, 5000, *range(4999, 4900, -1)]) == []
    assert _looks(Retained(100, 5), [500, 500, 500, 500, 90, 500, 500, 500, 500]) == []


def test_no_progress_counts_as_growing() -> None:
    """A reader that stands still will not catch up."""
    assert _looks(Retained(100, 5), [101] * 8) == [5]


def test_the_pause_grows_until_the_copy_has_caught_up() -> None:
    """So a copy that can never keep up does not copy for ever, and the source's disk stays free."""
    made = Retained(100, 2)
    pauses = []
    for _ in range(5):
        assert _looks(made, [200, 201, 202], caught_up=False) == [2]
        pauses.append(made.pause_seconds)
    assert pauses == [0.0, 600.0, 1800.0, 3600.0, 3600.0]
    made.look(10, 0.0, caught_up=False)
    assert made.rounds == 5
    made.look(60, 0.0, caught_up=True)
    assert made.rounds == 5
    made.look(50, 0.0, caught_up=True)
    assert made.rounds == 0


@pytest.mark.parametrize(
    ("states", "caught_up", "ready"),
    [
        (["following"], True, True),
        (["following", "copying"], False, False),
        (["following", "paused", "problem", "set_aside"], True, False),
    ],
)
def test_what_is_not_followed_is_not_waited_for(
    states: Sequence[str], *, caught_up: bool, ready: bool
) -> None:
    """A table without a key must not make the next pause the longer one for ever."""
    tables = tuple(TableReport(f"s.public.t{n}", s, 0, 0, "", "") for n, s in enumerate(states))
    report = SourceReport("s", SourceState.STREAMING, "", "", 0, None, 0, 0, (), tables)
    assert (report.caught_up, report.ready) == (caught_up, ready)
