"""The snapshot on real servers: each row once, under one snapshot, or a clear refusal."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from htapkit.errors import (
    CatalogChanged,
    SourceRefused,
    SourceUnavailable,
    TableSetAside,
    UnfaithfulValue,
)
from htapkit.model import RowChanges, Split, Storage, TableId
from htapkit.spi import Discovered
from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until
from htapkit_postgres import catalog
from htapkit_postgres.connection import Connection, Settings
from htapkit_postgres.decode import Decoder
from htapkit_postgres.pace import FLOOR, Listener, Pace, Rhythm
from htapkit_postgres.pgoutput import position_lsn
from htapkit_postgres.snapshot import PostgresSnapshot
from tests.captured import framed, settings, slot
from tests.replay import Replay
from tests.typed_rows import oracle, told

pytestmark = pytest.mark.integration

T = TableId("s", "public", "t")


def _open(
    database: Database,
    *tables: TableId,
    user: str = "postgres",
    pages: int = 2,
    text: Sequence[str] = (),
    rate: int | None = None,
    pace: Pace | None = None,
    rhythm: Rhythm | None = None,
) -> PostgresSnapshot:
    options = settings(database)
    options = Settings("s", database.dsn_as(user), options.tables, "unused", "published")

    def described(connection: Connection, names: Sequence[TableId]) -> Mapping[TableId, Discovered]:
        found = catalog.describe(connection, options, names)
        for discovered in found:
            for column in discovered.schema.columns:
                if column.name in text:
                    object.__setattr__(column, "storage", Storage.TEXT)
        return {discovered.schema.table: discovered for discovered in found}

    return PostgresSnapshot(
        options,
        tables or (T,),
        described,
        pages_per_split=pages,
        rows_per_second_max=rate,
        pace=pace,
        rhythm=rhythm,
    )


def _rows(snapshot: PostgresSnapshot, splits: Sequence[Split] | None = None) -> pa.Table:
    splits = snapshot.splits(T) if splits is None else splits
    batches = [batch for split in splits for batch in snapshot.read(split)]
    return pa.Table.from_batches(batches, snapshot.tables[T].schema.arrow)


def _backends(database: Database) -> int:
    query = "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
    end = time.monotonic() + 60
    while True:
        count: int = database.execute(query, [database.name])[0][0]
        if not count or time.monotonic() > end:
            return count
        time.sleep(0.02)


def test_each_row_once_as_of_the_snapshot(database: Database) -> None:
    """Many splits; what is written after the snapshot was taken is not in it."""
    database.execute(
        "create table t as select i as id, repeat('x', 100) as v from generate_series(1, 3000) i"
    )
    database.execute("delete from t where id % 7 = 0")
    snapshot = _open(database)
    database.execute(
        "insert into t values (-1, ''); update t set v = 'new'; delete from t where id < 500"
    )
    database.execute("vacuum t")
    splits = snapshot.splits(T)
    assert len(splits) > 10
    assert 1000 < sum(split.rows_estimate for split in splits) < 20000
    rows = _rows(snapshot, splits)
    assert sorted(rows["id"].to_pylist()) == [i for i in range(1, 3001) if i % 7]
    assert set(rows["v"].to_pylist()) == {"x" * 100}
    snapshot.close()
    snapshot.close()
    with pytest.raises(SourceUnavailable, match="closed"):
        next(snapshot.read(splits[0]))
    assert _backends(database) == 0


def test_no_slot_is_left(database: Database) -> None:
    """The slot that told the position is gone before the first row is read."""
    database.execute("create table t (id int primary key)")
    snapshot = _open(database)
    query = "select count(*) from pg_replication_slots where database = %s"
    assert database.execute(query, [database.name]) == [(0,)]
    snapshot.close()


def test_handover_under_load(database: Database) -> None:
    """Snapshot, then the commits after its position: nothing twice, nothing missing."""
    database.execute("create table t (id int primary key, v int)")
    database.execute("insert into t select i, 0 from generate_series(1, 2000) i")
    stop = threading.Event()

    number = 2000

    def load() -> None:
        nonlocal number
        rng = random.Random(7)
        with database.connect() as connection:
            while not stop.is_set():
                number += 1
                connection.execute("insert into t values (%s, 1)", [number])
                connection.execute("update t set v = v + 1 where id = %s", [rng.randint(1, number)])
                connection.execute("delete from t where id = %s", [rng.randint(1, number)])

    with slot(database) as changes, ThreadPoolExecutor(5) as pool:
        loading = pool.submit(load)
        try:
            wait_until(lambda: number > 2005 or loading.done(), 60)
            snapshot = _open(database)
            splits = snapshot.splits(T)
            parts = list(pool.map(lambda split: list(snapshot.read(split)), splits))
            copied = number
            wait_until(lambda: number > copied + 5 or loading.done(), 60)
        finally:
            stop.set()
        loading.result()
        frames = framed(changes.messages())
    schema = snapshot.tables[T].schema
    replay = Replay([schema])
    for batch in (batch for part in parts for batch in part):
        replay.rows[T].update(zip(*map(told, batch.columns), strict=True))
    (change,) = Decoder("s", lambda _: schema).decode(frames)
    assert isinstance(change, RowChanges)
    lsn = position_lsn(snapshot.position)
    later = [i for i, c in enumerate(change.commit.to_pylist()) if frames.ends[c] > lsn]
    assert 0 < len(later) < len(change.ops)
    replay.apply([_from(change, later[0])])
    stored = database.execute("select id::text, v::text from t")
    assert sorted(replay.rows[T].elements()) == sorted(stored)
    snapshot.close()


def _from(change: RowChanges, first: int) -> RowChanges:
    return RowChanges(
        T, change.ops.slice(first), change.rows.slice(first), change.commit.slice(first)
    )


def test_partitions(database: Database) -> None:
    """Leaf tables with other column orders; small ones share a split."""
    database.execute(
        """create table t (id int, k int, v text, primary key (id, k)) partition by list (k);
        create table t0 partition of t for values in (0) partition by range (id);
        create table t0a partition of t0 for values from (0) to (500);
        create table t0b partition of t0 default;
        create table t1 (v text, k int not null, id int not null);
        alter table t attach partition t1 for values in (1);
        create table t2 partition of t for values in (2);
        insert into t select i, i % 2, 'v' || i from generate_series(1, 2000) i"""
    )
    with_few, with_many = _open(database, pages=1000), _open(database, pages=1)
    assert len(with_few.splits(T)) == 1
    assert len(with_many.splits(T)) > 5
    for snapshot in (with_few, with_many):
        rows = _rows(snapshot).sort_by("id")
        assert rows["id"].to_pylist() == list(range(1, 2001))
        assert rows["v"].to_pylist() == [f"v{i}" for i in range(1, 2001)]
        snapshot.close()


def test_rights_on_the_root_only(database: Database) -> None:
    """A role that may read the partitioned table need not be granted its parts."""
    user = f"reader_{database.name}"
    database.execute(
        f"""create table t (id int primary key) partition by hash (id);
        create table t0 partition of t for values with (modulus 2, remainder 0);
        create table t1 partition of t for values with (modulus 2, remainder 1);
        insert into t select generate_series(1, 100);
        create role {user} login replication; grant select on t to {user}"""
    )
    snapshot = _open(database, user=user)
    assert sorted(_rows(snapshot)["id"].to_pylist()) == list(range(1, 101))
    snapshot.close()
    database.execute(f"drop owned by {user}; drop role {user}")


def test_row_security(database: Database) -> None:
    """A filtered copy is refused, never mistaken for the whole."""
    user = f"reader_{database.name}"
    database.execute(
        f"""create table t (id int primary key); insert into t values (1), (2);
        create role {user} login replication; grant select on t to {user};
        create policy one on t for select to {user} using (id = 1); alter table t enable row level
        security"""
    )
    snapshot = _open(database, user=user)
    with pytest.raises(SourceRefused, match="row-level security"):
        _rows(snapshot)
    snapshot.close()
    database.execute(f"drop owned by {user}; drop role {user}")


@pytest.mark.parametrize(
    "change",
    [
        "truncate t",
        "vacuum full t",
        "alter table t alter v type int using 7",
        "alter table t drop column v",
        "alter table t rename v to w",
        "drop table t",
    ],
)
def test_table_changed_meanwhile(database: Database, change: str) -> None:
    """A table that was rewritten under the snapshot is not copied, whenever that is seen."""
    database.execute("create table t as select i as id, 'v' as v from generate_series(1, 2000) i")
    snapshot = _open(database)
    splits = snapshot.splits(T)
    first = _rows(snapshot, splits[:1])
    assert first.num_rows > 0
    database.execute(change)
    with pytest.raises(CatalogChanged):
        _rows(snapshot, splits[1:])
    snapshot.close()


@pytest.mark.parametrize("making", ["unlogged table t", "table nothing"])
def test_refused_tables(database: Database, making: str) -> None:
    """Tables whose changes are not in the log, or that are not there."""
    database.execute(f"create {making} (id int primary key)")
    snapshot = _open(database)
    with pytest.raises((TableSetAside, CatalogChanged), match=r"not logged|does not exist"):
        snapshot.splits(T)
    snapshot.close()


def test_unfaithful_values(database: Database) -> None:
    """Refused in their native type, exact as text."""
    database.execute(
        """create table t (id int primary key, n numeric(6, 2), ts timestamptz, b bool, h bytea);
        insert into t values (1, 'NaN', null, true, '\\x00ff'), (2, 1.5, '294276-01-01', null,
        '')"""
    )
    for text, wrong in (((), "n"), (("n",), "ts")):
        snapshot = _open(database, text=text)
        with pytest.raises(UnfaithfulValue) as caught:
            _rows(snapshot)
        assert caught.value.column == wrong
        snapshot.close()
    snapshot = _open(database, text=["n", "ts", "b", "h"])
    rows = _rows(snapshot).sort_by("id").to_pydict()
    snapshot.close()
    assert rows == {
        "id": [1, 2],
        "n": ["NaN", "1.50"],
        "ts": [None, "294276-01-01 00:00:00+00"],
        "b": ["t", None],
        "h": ["\\x00ff", "\\x"],
    }


def test_server_stops(database: Database) -> None:
    """A broken connection is SourceUnavailable, and closing is still quiet."""
    database.execute(
        "create table t as select i as id, repeat('x', 500) as v from generate_series(1, 9000) i"
    )
    snapshot = _open(database, pages=10_000, rate=1_000_000)
    (split,) = snapshot.splits(T)
    reading = snapshot.read(split)
    next(reading)
    database.server.restart("immediate")
    with pytest.raises(SourceUnavailable):
        list(reading)
    with pytest.raises(SourceUnavailable):
        snapshot.splits(T)
    with pytest.raises(SourceUnavailable):
        list(snapshot.read(split))
    snapshot.close()


def test_keeper_dies(database: Database) -> None:
    """What is being read goes on; nothing new can be read in a snapshot that nobody keeps."""
    database.execute("create table t as select i as id from generate_series(1, 9000) i")
    snapshot = _open(database, pages=10)
    first, second, *_ = snapshot.splits(T)
    reading = snapshot.read(first)
    next(reading)
    query = "select pg_terminate_backend(pid, 60000) from pg_stat_activity where query like %s"
    assert database.execute(query, ["%has_any_column_privilege%"]) == [(True,)]
    list(reading)
    with pytest.raises(SourceUnavailable):
        list(snapshot.read(second))
    snapshot.close()


def test_close_stops_readers(database: Database) -> None:
    """Readers in other threads end soon with SourceUnavailable."""
    database.execute(
        "create table t as select i as id, repeat('x', 500) as v from generate_series(1, 9000) i"
    )
    snapshot = _open(database, pages=10_000, rate=10)
    begun = threading.Event()

    def read() -> None:
        for _ in snapshot.read(snapshot.splits(T)[0]):
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert begun.wait(60)
        snapshot.close()
        with pytest.raises(SourceUnavailable):
            reading.result(60)
    assert _backends(database) == 0


def test_wrong_dsn(database: Database) -> None:
    """Unreachable is unavailable; a refused login is refused; neither tells the password."""
    port = database.server.port
    for dsn, error in (
        ("postgresql://postgres:hush@127.0.0.1:1/x", SourceUnavailable),
        (f"postgresql://nobody_here:hush@127.0.0.1:{port}/{database.name}", SourceRefused),
    ):
        with pytest.raises(error) as caught:
            PostgresSnapshot(Settings("s", dsn, ("*.*",), "a", "b"), [T], lambda *_: {})
        assert "hush" not in str(caught.value)


def test_odd_names(database: Database) -> None:
    """Names with quotes, capitals, percent signs and spaces."""
    table = TableId("s", 'Odd "schema"', "ta'ble %s")
    database.execute(
        """create schema "Odd ""schema\"""; create table "Odd ""schema\"""."ta'ble %s"
        ("select" int primary key, "a ""b" numeric(4, 1), "%" uuid)"""
    )
    database.execute(
        """insert into "Odd ""schema\"""."ta'ble %s" values (1, 2.5, gen_random_uuid())"""
    )
    snapshot = _open(database, table)
    (split,) = snapshot.splits(table)
    (batch,) = snapshot.read(split)
    snapshot.close()
    columns = ", ".join(oracle(f'"{n}"', batch[n].type) for n in ("select",)) + ', "%"::text'
    stored = database.execute(f"""select {columns} from "Odd ""schema\"""."ta'ble %s\" """)
    assert [(told(batch["select"])[0], batch["%"][0].as_py())] == stored


def test_a_source_that_suffers_is_read_at_the_floor_and_wholly(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers late whenever it is read: readers pause, and still every row comes."""
    database.execute("create table t as select i as id from generate_series(1, 20000) i")
    pace = Pace()

    def suffers(_: Listener, ask: Callable[[], object], gap_seconds: float) -> float:
        ask()
        return 1.0 if gap_seconds == rhythm.resting_gap_seconds else 100.0

    monkeypatch.setattr(Listener, "_listen", suffers)
    rhythm = Rhythm(begin_seconds=0.0, drain_seconds=0.0)
    snapshot = _open(database, pages=30, pace=pace, rhythm=rhythm)
    splits = snapshot.splits(T)
    first = _rows(snapshot, splits[:1])
    wait_until(lambda: pace.share == FLOOR, 30)
    rest = _rows(snapshot, splits[1:])
    snapshot.close()
    assert sorted(pa.concat_tables([first, rest])["id"].to_pylist()) == list(range(1, 20001))
    assert _backends(database) == 0
