"""A feed of a copy: whoever applies all events has the copy's rows, whatever dies when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from htapkit import failpoints
from htapkit.errors import PositionLost, SourceUnavailable
from htapkit.feed import CopyReader
from htapkit.feed import round as round_module
from htapkit.feed.round import Round
from htapkit.hot import Asked, HotStore, table_query
from htapkit.model import Catalog, TableId, TableState
from htapkit.sinks import Stage
from tests.property.reconciled_model import SCHEMA, TABLE, Row, events
from tests.property.test_reconciled import Copy
from tests.unit.htapkit.feed.test_round import Crash, MemorySession, MemorySink

POINTS = [name for name in failpoints.SINK if name != "sink.opened"]


def rows(catalog: Catalog, table: TableId) -> Asked:
    """All of it is hot."""
    return Asked(table_query(catalog.tables[table].schema))


def replayed(sink: MemorySink) -> list[Row]:
    """What the events make."""
    found: dict[tuple[object, ...], Row] = {}
    for table, op, row, at in sink.events:
        assert table == TABLE
        key = row[:2]
        if op == "t":
            found.clear()
        elif op == "d":
            del found[key]
        else:
            assert (key in found) == (op == "u"), (op, row, at)
            assert found.get(key) != row, (op, row, at)
            found[key] = row  # type: ignore[assignment]
    return sorted(found.values(), key=repr)


class Fed:
    """A copy that is fed to a sink, and a sink that survives everything."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.copy = Copy(folder)
        self.chance = random.Random(seed)
        self.sink = MemorySink()
        self.deaths = 0
        self.copy.store.add_table(SCHEMA, "f")
        self.copy.store.remember_identity("events", "here")
        self.copy.apply([])
        self.copy.copied([])
        self.begin()

    def begin(self) -> None:
        """A new round, as after any failure."""
        reader = CopyReader(self.copy.store, "events", "sink", rows)
        self.round = Round(reader, MemorySession(self.sink), lambda *_: None, 7)
        self.look()
        self.round.open()

    def look(self) -> bool:
        """As the feed does every few seconds."""
        return self.round.look(("*.*",))

    def now(self) -> int:
        """In microseconds."""
        return int(self.copy.clock.now.timestamp() * 1_000_000)

    def change(self) -> None:
        """Much of the table."""
        self.copy.apply(events(self.chance, 40, self.now()))

    def write(self) -> None:
        """What a source does, and time."""
        roll, copy, now = self.chance.random(), self.copy, self.now()
        if roll < 0.1:
            copy.clock.now += timedelta(microseconds=5)
            copy.store.maintain()
        elif roll < 0.14:
            copy.store.copy_again(TABLE, "asked")
            if self.chance.random() < 0.5:
                self.step()
            copy.copied(events(self.chance, 20, now))
        elif roll < 0.2:
            copy.store.set_state(TABLE, TableState.PAUSED, "by a test")
            copy.apply(events(self.chance, 8, now))
            copy.store.set_state(TABLE, TableState.FOLLOWING, "")
        else:
            copy.apply(events(self.chance, self.chance.randint(1, 12), now))

    def step(self) -> None:
        """One step of the feed, perhaps its last."""
        name, left = self.chance.choice(POINTS), self.chance.randint(1, 2)

        def die(reached: str) -> None:
            nonlocal left
            left -= reached == name
            if not left:
                raise Crash(name)

        failpoints.arm(die if self.chance.random() < 0.4 else None)
        try:
            if self.chance.random() < 0.2:
                self.look()
            self.round.step()
        except Crash:
            self.die()
        finally:
            failpoints.arm(None)

    def die(self) -> None:
        """The process, or only the feed."""
        self.deaths += 1
        self.round.close()
        if self.chance.random() < 0.5:
            self.copy.reopen()
        self.begin()

    def finish(self) -> None:
        """Send all that there is."""
        for _ in range(300):
            self.look()
            self.round.step()
            fed = self.round.tables[TABLE]
            journal, at = self.copy.store.journal, int(self.round.stored or 0)
            if fed.stage is Stage.FOLLOWING and not journal.bytes_after("events", at):
                return
        raise AssertionError(f"it does not end: {self.round.stored}, {self.round.tables}")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is waited for, and no crash is left behind."""
    monkeypatch.setattr(round_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(round_module, "MOVE_SECONDS", 0.0)
    monkeypatch.setattr(round_module, "GATHER_SECONDS", 0.0)
    yield
    failpoints.arm(None)


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Fed]:
    """One that began."""
    made = Fed(tmp_path, random.randrange(2**32))
    yield made
    made.round.close()
    made.copy.store.close()


@pytest.mark.parametrize("round_", range(5))
def test_whoever_applies_all_events_has_the_rows(tmp_path: Path, round_: int) -> None:
    """Through crashes of feed and process, new copies, pauses, rows that end."""
    seed = random.randrange(2**32)
    print(f"seed {seed} of round {round_}")
    made = Fed(tmp_path, seed)
    try:
        steps = 0
        while steps < 40 or made.deaths < 2:
            made.write() if made.chance.random() < 0.5 else made.step()
            steps += 1
        made.finish()
        assert replayed(made.sink) == made.copy.rows() != []
    finally:
        made.round.close()
        made.copy.store.close()


def test_what_is_sent_is_not_kept(fed: Fed) -> None:
    """Neither while it is followed nor when the feed is given up."""
    journal = fed.copy.store.journal
    fed.finish()
    fed.change()
    assert journal.kept_bytes("events", "sink") > 0
    fed.finish()
    journal.confirm("events", "sink", int(fed.round.stored or 0))
    assert not journal.kept_bytes("events", "sink")
    fed.change()
    CopyReader(fed.copy.store, "events", "sink", rows).detach()
    assert not journal.bytes_after("events", 0)


def test_a_place_that_was_given_up_is_lost(fed: Fed) -> None:
    """What came meanwhile was not kept: only a new copy is exact."""
    fed.finish()
    fed.change()
    fed.copy.store.journal.let_go("events", "sink")
    with pytest.raises(PositionLost, match="keeps nothing for sink"):
        fed.begin()


def test_a_file_that_was_restored_has_no_place(fed: Fed, tmp_path: Path) -> None:
    """Its numbers would come twice, for other changes."""
    fed.finish()
    fed.copy.store.copy_to(tmp_path / "other.duckdb")
    with HotStore(tmp_path / "other.duckdb") as other:
        reader = CopyReader(other, "events", "sink", rows)
        with pytest.raises(PositionLost):
            Round(reader, MemorySession(fed.sink), lambda *_: None, 7).open()


def test_sinks_that_are_not_configured_keep_nothing(fed: Fed) -> None:
    """Or the file would grow for ever."""
    journal = fed.copy.store.journal
    assert journal.keep("events", frozenset({"sink"})) == frozenset()
    fed.copy.reopen()
    journal = fed.copy.store.journal
    assert journal.keep("events", frozenset({"another"})) == {"sink"}
    fed.change()
    assert not journal.bytes_after("events", 0)


def test_a_copy_that_is_not_attached_yet(tmp_path: Path) -> None:
    """It is waited for."""
    with HotStore(tmp_path / "hot.duckdb") as store, pytest.raises(SourceUnavailable, match="yet"):
        Round(
            CopyReader(store, "events", "sink", rows),
            MemorySession(MemorySink()),
            lambda *_: None,
            7,
        )
