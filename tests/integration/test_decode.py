"""The decoder on real streams: what it gives, applied row by row, is what the source has."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest

from htapkit.errors import SourceError, UnfaithfulValue
from htapkit.model import (
    Broken,
    Change,
    Column,
    Op,
    RowChanges,
    SchemaChange,
    Storage,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit.testing.postgres import Database
from htapkit_postgres import catalog
from htapkit_postgres.connection import conninfo
from htapkit_postgres.decode import Decoder
from htapkit_postgres.pgoutput import Relation, parse_lsn
from tests.captured import by_transaction, framed, settings, slot
from tests.replay import Replay, Row
from tests.typed_rows import oracle

pytestmark = pytest.mark.integration

BIG = "select string_agg(md5(i::text), '') from generate_series(1, 300) i"

TABLES = """
create table plain (a int, b text, n numeric(8, 2), big text, ts timestamptz, primary key (b, a));
create table indexed (a int primary key, u text not null, big text, v float8);
create unique index indexed_u on indexed (u);
alter table indexed replica identity using index indexed_u;
create table whole (a int primary key, b text, big text);
alter table whole replica identity full;
create table bag (a int, b text, big text);
alter table bag replica identity full;
create table journal (a int, b text);
create table parted (id int, k int, v text, big text, primary key (id, k)) partition by list (k);
create table parted_0 partition of parted for values in (0);
create table parted_1 (v text, big text, k int not null, id int not null);
alter table parted attach partition parted_1 for values in (1);
do $$ declare t text; begin
  foreach t in array array['plain', 'indexed', 'whole', 'bag', 'parted_0', 'parted_1'] loop
    execute format('alter table %I alter big set storage external', t);
  end loop; end $$;
"""

PUBLISHED = "table plain, indexed, whole, bag, parted, other"
ROOT = "with (publish_via_partition_root = true)"


def _schemas(database: Database) -> dict[TableId, TableSchema]:
    options = replace(settings(database), append_only=("public.journal",))
    with psycopg.connect(conninfo(options), autocommit=True) as connection:
        found = catalog.describe(connection, options)
    return {discovered.schema.table: discovered.schema for discovered in found}


def _decoder(schemas: dict[TableId, TableSchema]) -> Decoder:
    return Decoder("s", lambda r: schemas.get(TableId("s", r.schema, r.name)))


def _stored(database: Database, schema: TableSchema) -> Counter[Row]:
    columns = ", ".join(oracle(f'"{field.name}"', field.type) for field in schema.arrow)
    table = f'"{schema.table.schema}"."{schema.table.name}"'
    return Counter(map(tuple, database.execute(f"select {columns} from {table}")))


def _statement(rng: random.Random) -> str:
    a, b, v = rng.randint(1, 12), rng.choice("xyzé"), rng.choice(["null", "'α'", "''", "'w'"])
    big = rng.choice([f"({BIG})", "null", "'small'", f"(repeat('{b}', 9000))"])
    number = rng.choice(["null", "-0.05", "123456.78"])
    when = rng.choice(["'infinity'", "now()", "'0044-03-15 BC'", "null"])
    table = rng.choice(["plain", "indexed", "whole", "bag", "parted"])
    insert = {
        "plain": f"({a}, '{b}', {number}, {big}, {when})",
        "indexed": f"({a}, '{b}{rng.randint(1, 4)}', {big}, random())",
        "whole": f"({a}, {v}, {big})",
        "bag": f"({a}, {v}, {big})",
        "parted": f"({a}, {a % 2}, {v}, {big})",
    }
    update = {
        "plain": rng.choice([f"n = {number}", f"a = a + 20, ts = {when}", f"big = {big}", "b = b"]),
        "indexed": rng.choice(["v = v + 1", f"u = u || '{b}'", f"big = {big}", "a = a + 30"]),
        "whole": rng.choice([f"b = {v}", "a = a + 20", f"big = {big}"]),
        "bag": rng.choice([f"b = {v}", f"a = {a}", f"big = {big}"]),
        "parted": rng.choice([f"v = {v}", "k = 1 - k", "id = id + 40"]),
    }
    column = "id" if table == "parted" else "a"
    kind = rng.random()
    if kind < 0.02:
        return rng.choice(["truncate plain, bag", "truncate parted", "truncate indexed cascade"])
    if kind < 0.55:
        return f"insert into {table} values {insert[table]}"
    if kind < 0.85:
        return f"update {table} set {update[table]} where {column} = {a} or {column} % 5 = {a % 5}"
    return f"delete from {table} where {column} = {a}"


def _run(database: Database, rng: random.Random, count: int) -> None:
    with database.connect() as connection:
        for _ in range(count):
            try:
                with connection.transaction():
                    for _ in range(rng.choice([1, 1, 2, 5])):
                        try:
                            with connection.transaction():  # a subtransaction
                                connection.execute(_statement(rng))
                        except (psycopg.errors.UniqueViolation, psycopg.errors.CheckViolation):
                            pass
                    if rng.random() < 0.1:
                        raise psycopg.Rollback  # noqa: TRY301 - psycopg's own way
            except psycopg.Rollback:
                pass


def _parts(changes: Sequence[bytes], rng: random.Random) -> list[list[bytes]]:
    """The same messages cut anywhere, as a transaction over the limits is."""
    cuts = sorted(rng.sample(range(1, len(changes)), min(20, len(changes) - 1)))
    return [list(changes[a:b]) for a, b in zip([0, *cuts], [*cuts, len(changes)], strict=True)]


def test_random_changes(database: Database) -> None:
    """Every identity, unchanged TOAST, moved keys, truncates and partitions, cut in three ways."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    database.execute(TABLES + "create table other (a int)")
    with slot(database, PUBLISHED, ROOT) as changes:
        _run(database, rng, 250)
        messages = changes.messages()
    schemas = _schemas(database)
    del schemas[TableId("s", "public", "other")]
    cut = [framed(part) for part in _parts(messages, rng)]
    for frames in ([framed(messages)], list(by_transaction(messages)), cut):
        decoder, replay = _decoder(schemas), Replay(schemas.values())
        for part in frames:
            replay.apply(decoder.decode(part))
        for table, schema in schemas.items():
            assert replay.rows[table] == _stored(database, schema), table


def test_shapes(database: Database) -> None:
    """What exactly comes out: groups, commits, before, unchanged."""
    database.execute(TABLES)
    with slot(database, "table plain, whole, journal") as changes:
        database.execute(
            f"insert into plain values (1, 'x', 1, ({BIG}), null), (2, 'y', 2, '', null)"
        )
        database.execute("update plain set n = 3 where a = 1")
        database.execute("update plain set a = 9, n = null where a = 2")
        database.execute("delete from plain where a = 9")
        database.execute(f"insert into whole values (1, 'p', ({BIG}))")
        database.execute("update whole set b = 'q'")
        database.execute("insert into journal values (5, 'j')")
        frames = changes.frames()
        end = database.execute("select pg_current_wal_lsn()::text")[0][0]
    schemas = _schemas(database)
    plain, whole, journal = _decoder(schemas).decode(frames)
    assert isinstance(plain, RowChanges)
    assert isinstance(whole, RowChanges)
    assert isinstance(journal, RowChanges)
    assert plain.ops.to_pylist() == [Op.INSERT, Op.INSERT, Op.UPDATE, Op.UPDATE, Op.DELETE]
    assert plain.commit.to_pylist() == [0, 0, 1, 2, 3]
    assert plain.rows.schema == schemas[plain.table].arrow
    assert plain.rows["a"].to_pylist() == [1, 2, 1, 9, 9]
    assert plain.before is not None
    assert plain.before.schema.names == ["a", "b"]
    assert plain.before["a"].to_pylist() == [None, None, None, 2, None]
    assert plain.moved is not None
    assert plain.moved.to_pylist() == [False, False, False, True, False]
    assert {name: mask.to_pylist() for name, mask in plain.unchanged.items()} == {
        "big": [False, False, True, False, False]
    }
    # The identity is the whole row, so the old one holds what was not sent again.
    assert (whole.unchanged, whole.before) == ({}, None)
    assert whole.rows["big"].to_pylist() == [database.execute(BIG)[0][0]] * 2
    assert journal.commit.to_pylist() == [6]
    assert len(frames.ends) == 7
    assert frames.ends[-1] <= parse_lsn(end)


def test_barriers(database: Database) -> None:
    """A truncate and a new layout part the rows before and after them, of their tables only."""
    database.execute("create table a (id int primary key); create table b (id int primary key)")
    schemas = {}
    with slot(database) as changes:
        database.execute("insert into a values (1); insert into b values (1)")
        schemas[1] = _schemas(database)
        database.execute("truncate a; insert into a values (2); insert into b values (2)")
        database.execute("alter table a add column v text; insert into a values (3, 'v')")
        schemas[2] = _schemas(database)
        frames = changes.frames()
    seen: dict[str, int] = {}

    def resolve(relation: Relation) -> TableSchema | SchemaChange | None:
        table = TableId("s", relation.schema, relation.name)
        if len(relation.columns) == 1:
            return schemas[1][table]
        seen[relation.name] = seen.get(relation.name, 0) + 1
        return SchemaChange(schemas[2][table], faithful=True)

    out: list[Change] = list(Decoder("s", resolve).decode(frames))
    of_a = [c for c in out if not (isinstance(c, RowChanges) and c.table.name == "b")]
    of_b = [c for c in out if isinstance(c, RowChanges) and c.table.name == "b"]
    assert [type(c) for c in of_a] == [RowChanges, Truncate, RowChanges, SchemaChange, RowChanges]
    assert [c.rows.num_columns for c in of_a if isinstance(c, RowChanges)] == [1, 1, 2]
    assert [len(c.ops) for c in of_b] == [2]
    assert seen == {"a": 1}
    replay = Replay(schemas[1].values())
    replay.apply(out)
    for schema in schemas[2].values():
        assert replay.rows[schema.table] == _stored(database, schema)


def test_identity_lost(database: Database) -> None:
    """A replica identity that no longer names our rows breaks the table before a wrong row."""
    database.execute("create table t (id int primary key, u int not null unique)")
    schemas = _schemas(database)
    with slot(database) as changes:
        database.execute("insert into t values (1, 1)")
        database.execute("alter table t replica identity using index t_u_key; delete from t")
        frames = changes.frames()
    rows, broken = _decoder(schemas).decode(frames)
    assert isinstance(rows, RowChanges)
    assert isinstance(broken, Broken)
    assert "replica identity" in broken.why


def test_update_of_append_only(database: Database) -> None:
    """Rows of an append-only table that are not inserts are never passed on."""
    database.execute("create table journal (a int)")
    schemas = _schemas(database)
    with slot(database) as changes:
        database.execute("insert into journal values (1)")
        database.execute("alter table journal replica identity full; delete from journal")
        frames = changes.frames()
    rows, broken = _decoder(schemas).decode(frames)
    assert isinstance(rows, RowChanges)
    assert rows.ops.to_pylist() == [Op.INSERT]
    assert isinstance(broken, Broken)
    assert not broken.copy_again


def test_unfaithful_then_text(database: Database) -> None:
    """The value is refused; with the column as text the very same frames are exact."""
    database.execute("create table t (id int primary key, n numeric(6, 2), ts timestamp)")
    schemas = _schemas(database)
    (schema,) = schemas.values()
    with slot(database) as changes:
        database.execute("insert into t values (1, 1.5, '294246-12-31'), (2, 'NaN', null)")
        database.execute("insert into t values (3, 7, '294276-12-31')")
        frames = changes.frames()
    decoder = _decoder(schemas)
    for wrong in ("n", "ts"):
        with pytest.raises(UnfaithfulValue) as caught:
            decoder.decode(frames)
        assert (caught.value.table, caught.value.column) == (schema.table, wrong)
        columns = tuple(_as_text(c) if c.name == wrong else c for c in schema.columns)
        schema = TableSchema(schema.table, columns, schema.key)
        schemas[schema.table] = schema
        decoder.expect([schema])
    (rows,) = decoder.decode(frames)
    assert isinstance(rows, RowChanges)
    assert rows.rows["n"].to_pylist() == ["1.50", "NaN", "7.00"]
    assert rows.rows["ts"].to_pylist() == ["294246-12-31 00:00:00", None, "294276-12-31 00:00:00"]


def _as_text(column: Column) -> Column:
    return replace(column, storage=Storage.TEXT)


def test_tried_again_across_a_new_layout(database: Database) -> None:
    """After a refused value the rows before a relation message are read as they were."""
    database.execute("create table t (id int primary key, n numeric(6, 2))")
    old = _schemas(database)
    with slot(database) as changes:
        database.execute("insert into t values (1, 1)")
        database.execute("insert into t values (2, 2)")
        database.execute("alter table t add v text; insert into t values (3, 'NaN', 'v')")
        messages = changes.messages()
    first, second = framed(messages[:4]), framed(messages[4:])
    (new,) = _schemas(database).values()
    as_text = replace(new, columns=(new.columns[0], _as_text(new.columns[1]), new.columns[2]))
    answers = [old[new.table], new, as_text]
    decoder = Decoder("s", lambda _: answers.pop(0))
    decoder.decode(first)
    with pytest.raises(UnfaithfulValue):
        decoder.decode(second)
    decoder.expect([replace(as_text, columns=as_text.columns[:2])])
    before, after = decoder.decode(second)
    assert isinstance(before, RowChanges)
    assert isinstance(after, RowChanges)
    assert before.rows.to_pylist() == [{"id": 2, "n": "2.00"}]
    assert after.rows.to_pylist() == [{"id": 3, "n": "NaN", "v": "v"}]


def test_expect(database: Database) -> None:
    """Tables come and go between batches, without a new relation message."""
    database.execute("create table a (id int primary key); create table b (id int primary key)")
    schemas = _schemas(database)
    (a, b) = (schemas[TableId("s", "public", name)] for name in "ab")
    insert = "insert into a select count(*) from a; insert into b select count(*) from b"
    with slot(database) as changes:
        for _ in range(3):
            database.execute(insert)
        parts = list(by_transaction(changes.messages()))
    decoder = _decoder({a.table: a})
    first, second, third = parts
    (change,) = decoder.decode(first)
    assert isinstance(change, RowChanges)
    assert change.table == a.table
    decoder.expect([b])
    (change,) = decoder.decode(second)
    assert isinstance(change, RowChanges)
    assert change.table == b.table
    decoder.expect([a, b])
    assert len(decoder.decode(third)) == 2


def test_rows_before_their_relation(database: Database) -> None:
    """A stream that was cut in is an error, not a loss."""
    database.execute("create table a (id int primary key)")
    with slot(database) as changes:
        database.execute("insert into a values (1)")
        messages = [m for m in changes.messages() if m[:1] != b"R"]
    with pytest.raises(SourceError, match="before the relation"):
        _decoder(_schemas(database)).decode(framed(messages))
