"""Random protocol batches, sent straight to PostgreSQL and through us.

Every message must be the same.
"""

from __future__ import annotations

import random

import pytest

from htapkit.serve.pgwire.lobby import Call, Guest, Lobby
from htapkit.testing.postgres import Database, PostgresServer
from tests.integration.pgwire_fakes import serving
from tests.integration.pgwire_raw import PREPARED, SHORT, Batches, compare, fresh_tables

pytestmark = pytest.mark.integration
SEEDS = range(1, 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_message_is_the_sources(pg: PostgresServer, seed: int) -> None:
    check(pg, Batches(random.Random(seed)), seed, 200)


@pytest.mark.parametrize("seed", [6, 7])
def test_short_reads_are_passed_on_whole(
    pg: PostgresServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of them from the lobby, by the thread that listens for all."""
    passed = []
    pass_on = Lobby._pass_on

    def count(self: Lobby, guest: Guest) -> Call | None:
        passed.append(guest)
        return pass_on(self, guest)

    monkeypatch.setattr(Lobby, "_pass_on", count)
    check(pg, Batches(random.Random(seed), PREPARED, SHORT, lookups=0.7), seed, 400)
    assert len(passed) > 60, f"the lobby passed on {len(passed)} answers: the test says nothing"


def check(pg: PostgresServer, made: Batches, seed: int, batches: int) -> None:
    reference, ours = Database(pg, f"fuzz_a{seed}"), Database(pg, f"fuzz_b{seed}")
    try:
        with serving(ours.dsn, ours.name) as (server, fake):
            count, differences = compare(
                (pg.port, reference.name),
                (server.port, ours.name),
                batches,
                made,
                lambda: fresh_tables([(pg.port, reference.name), (pg.port, ours.name)]),
            )
        assert not differences, f"seed {seed}\n" + "\n".join(differences)
        assert count > 500
        assert fake.reads > 5, "hardly anything was answered locally: the test says nothing"
    finally:
        reference.drop()
        ours.drop()
