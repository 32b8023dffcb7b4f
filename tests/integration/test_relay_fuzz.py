"""Random protocol batches, sent straight to PostgreSQL and through us.

Every message must be the same.
"""

from __future__ import annotations

import random

import pytest

from htapkit.testing.postgres import Database, PostgresServer
from tests.integration.pgwire_fakes import serving
from tests.integration.pgwire_raw import Batches, compare, fresh_tables

pytestmark = pytest.mark.integration
SEEDS = range(1, 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_message_is_the_sources(pg: PostgresServer, seed: int) -> None:
    reference, ours = Database(pg, f"fuzz_a{seed}"), Database(pg, f"fuzz_b{seed}")
    try:
        with serving(ours.dsn, ours.name) as (server, fake):
            count, differences = compare(
                (pg.port, reference.name),
                (server.port, ours.name),
                200,
                Batches(random.Random(seed)),
                lambda: fresh_tables([(pg.port, reference.name), (pg.port, ours.name)]),
            )
        assert not differences, f"seed {seed}\n" + "\n".join(differences)
        assert count > 500
        assert fake.reads > 5, "hardly anything was answered locally: the test says nothing"
    finally:
        reference.drop()
        ours.drop()
