"""Random histories against the hot store: it shows the model at the position it names."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from htapkit.model import TableState
from tests.property.hot_model import TABLES, Follower, Origin
from tests.property.tier_model import Tierer


def run_history(
    seed: int, steps: int, path: Path, *, archives: bool = False
) -> tuple[Follower, Tierer]:
    """Put a store through `steps` random actions, checking all the time."""
    rng = random.Random(seed)
    origin = Origin(rng)
    follower = Follower(path / "hot.duckdb", origin, archives=archives)
    tierer = Tierer(follower, origin, rng)
    try:
        for schema in TABLES:
            follower.copy(schema.table, rng)
        for _ in range(steps):
            _act(follower, tierer, origin, rng)
            follower.check()
        while follower.at < origin.head:
            follower.step(rng)
        follower.check()
        follower.reopen()
        follower.check()
    finally:
        tierer.close()
        follower.store.close()
    return follower, tierer


def _act(follower: Follower, tierer: Tierer, origin: Origin, rng: random.Random) -> None:
    table = rng.choice(TABLES).table
    status = follower.store.catalog.tables.get(table)
    rare = ("copy", "reopen", "restart", "redeliver", "pause", "again", "compact")
    erase = ("erase",) * 5 * follower.archives
    action = rng.choice(("step",) * 14 + ("tier",) * 12 + rare + erase)
    match action:
        case "tier" | "compact" | "erase":
            tierer.act(action)
        case "step":
            for _ in range(rng.choice((1, 2, 4))):
                origin.commit()
            follower.step(rng)
        case "copy":
            follower.copy(table, rng)
        case "reopen":
            follower.reopen()
            tierer.reopened()
        case "restart":
            follower.restart()
        case "redeliver":
            follower.redeliver()
        case "pause" if status is not None:
            if status.state is TableState.PAUSED:
                if status.copy_position is None:
                    follower.store.set_state(table, TableState.FOLLOWING, "")
            elif status.state is TableState.FOLLOWING:
                follower.store.set_state(table, TableState.PAUSED, "a test")
        case "again" if status is not None:
            follower.store.copy_again(table, "a test")
            follower.copy(table, rng)


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_what_can_be_read_is_the_model_at_its_position(seed: int) -> None:
    note(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        follower, _ = run_history(seed, 40, Path(folder))
    assert follower.reads > 20


def test_each_deletion_of_the_model_is_archived_once() -> None:
    with tempfile.TemporaryDirectory() as folder:
        follower, tierer = run_history(12, 60, Path(folder), archives=True)
    counts = follower.archived
    assert min(counts["seen"], counts["in the lake"]) > 1000, counts
    assert min(counts["erased"], counts["erased in the lake"], tierer.counts["archived"]) >= 3


@pytest.mark.long
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_each_deletion_of_any_model_is_archived_once(seed: int) -> None:
    note(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        follower, _ = run_history(seed, 40, Path(folder), archives=True)
    assert follower.archived["seen"] > 20


def test_long_histories_reach_every_kind_of_table() -> None:
    with tempfile.TemporaryDirectory() as folder:
        follower, tierer = run_history(1, 250, Path(folder))
        states = {s.schema.table: s for s in follower.store.catalog.tables.values()}
    assert set(states) == {s.table for s in TABLES}
    assert set(tierer.counts) == {
        "begun",
        "rows",
        "finished",
        "dropped",
        "void",
        "found",
        "compacted",
    }
