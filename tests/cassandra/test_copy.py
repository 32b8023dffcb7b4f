"""The whole way: a node's files and log become rows that are what SELECT gives."""

from __future__ import annotations

import json
import os
import random
import secrets
from array import array
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from htapkit.errors import HtapkitError, SourceUnavailable
from htapkit.model import TableId
from htapkit_cassandra import files
from htapkit_cassandra.jars import version
from tests.cassandra.mirrored import Copied, Row, copied, ends_equal
from tests.cassandra.workload import Workload
from tests.fix_cassandra import HAS_VECTORS, Keyspace, wait_for

pytestmark = pytest.mark.cassandra
_UUID = "00000000-0000-1000-8000-000000000001"


def test_random_statements_end_equal(keyspace: Keyspace, tmp_path: Path) -> None:
    """Before, while and after the copy is made, and over a restart."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    workload = Workload(keyspace, seed)
    workload.write(600)
    with copied(keyspace, tmp_path) as made:
        workload.write(300)
        made.follows("t")
        workload.write(300)
        keyspace.log_end()
        ends_equal(made)
    workload.write(300)
    with copied(keyspace, tmp_path) as made:
        workload.write(100)
        ends_equal(made)
        assert made.store.catalog.tables[TableId("events", keyspace.name, "t")].rows > 100


@pytest.mark.long
def test_what_the_log_does_not_show(keyspace: Keyspace, tmp_path: Path) -> None:
    """TRUNCATE, a column that is added, a table dropped and made again, a new one."""
    session, ks = keyspace.session, keyspace.name
    create = f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v text) WITH cdc = true"
    session.execute(create)
    session.execute(f"INSERT INTO {ks}.t (id, v) VALUES (1, 'old')")
    with copied(keyspace, tmp_path) as made:
        made.follows("t")
        _becomes(made, "id, v", [(1, "old")])
        session.execute(f"TRUNCATE {ks}.t")
        session.execute(f"INSERT INTO {ks}.t (id, v) VALUES (2, 'new')")
        _becomes(made, "id, v", [(2, "new")])
        session.execute(f"ALTER TABLE {ks}.t ADD w int")
        session.execute(f"INSERT INTO {ks}.t (id, w) VALUES (3, 4)")
        _becomes(made, "id, v, w", [(2, "new", None), (3, None, 4)])
        session.execute(f"DROP TABLE {ks}.t")
        session.execute(create)
        session.execute(f"INSERT INTO {ks}.t (id, v) VALUES (5, 'again')")
        _becomes(made, "id, v", [(5, "again")])


def _becomes(made: Copied, columns: str, expected: list[Row]) -> None:
    found: list[Row] = []

    def reached() -> bool | None:
        nonlocal found
        try:
            found = sorted(made.rows("t", columns), key=repr)
        except HtapkitError as error:  # it is being copied again, or has other columns
            found = [(str(error),)]
        return found == expected or None

    try:
        wait_for(reached)
    except AssertionError:
        assert found == expected


def test_a_large_partition_comes_in_parts(
    keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of it is in memory than some rows; together they are all of it."""
    monkeypatch.setattr(files, "BATCH_ROWS", 100)
    session, ks, rows = keyspace.session, keyspace.name, 6_300
    session.execute(f"CREATE TABLE {ks}.t (id int, ck int, PRIMARY KEY (id, ck)) WITH cdc = true")
    insert = session.prepare(f"INSERT INTO {ks}.t (id, ck) VALUES (1, ?)")
    for ck in range(rows):
        session.execute(insert, (ck,))
    table = TableId("events", ks, "t")
    with closing(keyspace.source()) as source, closing(source.snapshot([table], {})) as snapshot:
        (split,) = snapshot.splits(table)
        batches = list(snapshot.read(split))
    assert sorted(k for batch in batches for k in batch["k1"].to_pylist()) == list(range(rows))
    assert max(batch.num_rows for batch in batches) <= 2_000


@pytest.mark.skipif(
    version().startswith("6."), reason="6.0 clears no snapshot that it has not taken itself"
)
def test_a_copy_that_is_given_up_leaves_no_snapshot(
    keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor others of the same table, of readers that were killed.

    More is left to read than what lies between the reader and us.
    """
    monkeypatch.setattr(files, "BATCH_ROWS", 10)
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v blob) WITH cdc = true")
    insert = session.prepare(f"INSERT INTO {ks}.t (id, v) VALUES (?, ?)")
    for number in range(3_000):
        session.execute(insert, (number, bytes(1_000)))
    (folder,) = keyspace.node.folder.glob(f"data/{ks}/t-*")
    former = [folder / "snapshots" / f"htapkit-events-t{end}" for end in ("", "-0123abcd", "-2-5")]
    for each in former:
        each.mkdir(parents=True)
    table = TableId("events", ks, "t")
    left = f"data/{ks}/t-*/snapshots/htapkit-events-t-*"
    with closing(keyspace.source()) as source, closing(source.snapshot([table], {})) as snapshot:
        (split,) = snapshot.splits(table)
        reading = snapshot.read(split)
        assert isinstance(reading, Generator)
        next(reading)
        assert len(list(keyspace.node.folder.glob(left))) == 2
        reading.close()
    wait_for(lambda: True if list(keyspace.node.folder.glob(left)) == former[2:] else None)
    assert not former[0].exists()


@pytest.mark.parametrize("listed", [None, ["nb-1-big-Data.db"]])
def test_a_copy_without_its_snapshot_is_none(
    keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: list[str] | None
) -> None:
    """Somebody cleared it, or a file of it: what is read is not the table."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "00c0ffee")
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY) WITH cdc = true")
    session.execute(f"INSERT INTO {ks}.t (id) VALUES (1)")
    (folder,) = keyspace.node.folder.glob(f"data/{ks}/t-*")
    snapshot = tmp_path / ks / folder.name / "snapshots" / "htapkit-events-t-00c0ffee"
    snapshot.mkdir(parents=True)
    if listed is None:
        snapshot.rmdir()
    else:
        (snapshot / "manifest.json").write_text(json.dumps({"files": listed}))
    table = TableId("events", ks, "t")
    with closing(keyspace.source(data_folders=[str(tmp_path)])) as source:
        opened = source.snapshot([table], {})
        with closing(opened), pytest.raises(SourceUnavailable, match="was cleared while"):
            list(opened.read(opened.splits(table)[0]))


TYPES: Sequence[tuple[str, str, object]] = (
    ("ascii", "'a'", "a"),
    ("bigint", "-5", -5),
    ("blob", "0x00ff", b"\x00\xff"),
    ("boolean", "true", True),
    ("date", "'1969-12-31'", date(1969, 12, 31)),
    ("decimal", "-12.340", "-12.340"),
    ("double", "0.1", 0.1),
    ("duration", "1mo2d3ns", "1mo2d3ns"),
    ("float", "0.5", 0.5),
    ("inet", "'::1'", "::1"),
    ("int", "7", 7),
    ("smallint", "-3", -3),
    ("text", "'ü'", "ü"),
    ("time", "'01:02:03.000000004'", "01:02:03.000000004"),
    ("timestamp", "'2020-01-02 03:04:05.006Z'", datetime(2020, 1, 2, 3, 4, 5, 6000, UTC)),
    ("timeuuid", _UUID, _UUID),
    ("tinyint", "-1", -1),
    ("uuid", _UUID, _UUID),
    ("varint", "123456789012345678901234567890", "123456789012345678901234567890"),
    ("list<int>", "[3, 1]", "[3, 1]"),
    ("set<text>", "{'b', 'a'}", '["a", "b"]'),
    ("map<int, text>", "{1: 'x'}", '{"1": "x"}'),
    ("frozen<map<text, frozen<list<int>>>>", "{'k': [1, 2]}", '{"k": [1, 2]}'),
    ("tuple<int, text>", "(1, null)", "[1, null]"),
    ("place", "{street: 's', spots: [1]}", '{"street": "s", "spots": [1]}'),
    ("frozen<place>", "{street: 's'}", '{"street": "s"}'),
    *(
        (
            ("vector<float, 2>", "[0.1, 1e20]", array("f", [0.1, 1e20]).tolist()),
            ("vector<int, 2>", "[1, 2]", "[1, 2]"),
        )
        if HAS_VECTORS
        else ()
    ),
)


def test_every_type_arrives(keyspace: Keyspace, tmp_path: Path) -> None:
    """From the files and from the log, as the value itself or as a text that says the same."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TYPE {ks}.place (street text, spots frozen<list<int>>)")
    names = [f"c{number}" for number in range(len(TYPES))]
    columns = ", ".join(f"{n} {cql}" for n, (cql, _, _) in zip(names, TYPES, strict=True))
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY, {columns}) WITH cdc = true")
    values = ", ".join(literal for _, literal, _ in TYPES)
    insert = f"INSERT INTO {ks}.t (id, {', '.join(names)}) VALUES (ID, {values})"
    session.execute(insert.replace("ID", "1"))
    with copied(keyspace, tmp_path) as made:
        made.follows("t")
        session.execute(insert.replace("ID", "2"))
        rows = sorted(made.rows("t", ", ".join(["id", *names])))
    assert [row[0] for row in rows] == [1, 2]
    expected = [value for _, _, value in TYPES]
    for row in rows:
        found = dict(zip((cql for cql, _, _ in TYPES), row[1:], strict=True))
        assert found == dict(zip((cql for cql, _, _ in TYPES), expected, strict=True))
