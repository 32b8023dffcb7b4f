"""Random rows of every type: stream and snapshot are equal, and what PostgreSQL says they are."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest

from htapkit.model import Op, RowChanges, Storage, TableId, TableSchema
from htapkit.spi import Discovered
from htapkit.testing.postgres import Database, PostgresServer
from htapkit_postgres import catalog
from htapkit_postgres.connection import Connection, conninfo
from htapkit_postgres.decode import Decoder, Frames
from htapkit_postgres.snapshot import PostgresSnapshot
from tests.captured import by_transaction, framed, settings, slot
from tests.typed_rows import SETUP, TYPES, create_table, oracle, row, told

ROWS = 150
TABLE = TableId("s", "public", "t")


def _fill(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    marks = ", ".join(["%s"] * (len(TYPES) + 1))
    with psycopg.connect(
        conninfo(settings(database), more={"search_path": "public"})
    ) as connection:
        for number in range(ROWS):
            connection.execute(f"insert into t values ({marks})", row(rng, number))
            if number % 10 == 0:
                connection.commit()


def _decoded(schema: TableSchema, frames: Sequence[Frames]) -> pa.Table:
    decoder = Decoder("s", lambda _: schema)
    changes = [change for part in frames for change in decoder.decode(part)]
    assert all(isinstance(c, RowChanges) for c in changes)
    batches = [c.rows for c in changes if isinstance(c, RowChanges)]
    assert {op for c in changes for op in c.ops.to_pylist()} == {Op.INSERT}  # type: ignore[union-attr]
    return pa.Table.from_batches(batches).combine_chunks()


def _stored(schema: TableSchema, storage: Storage) -> TableSchema:
    first, *columns = schema.columns
    return replace(schema, columns=(first, *(replace(c, storage=storage) for c in columns)))


def _storage_equal(left: pa.Table, right: pa.Table) -> list[str]:
    """Names of the columns that differ; storage is compared, since NaN is equal to nothing."""
    return [
        name
        for name in left.column_names
        if told(left[name].combine_chunks()) != told(right[name].combine_chunks())
    ]


@pytest.mark.integration
@pytest.mark.parametrize("storage", list(Storage))
def test_every_type(database: Database, storage: Storage) -> None:
    """Every type, with its strangest values, in its own type and as PostgreSQL prints it."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    database.execute(SETUP + create_table("t"))
    with slot(database) as changes:
        _fill(database, seed)
        messages = changes.messages()
    options = settings(database)

    def described(
        connection: Connection, tables: Sequence[TableId]
    ) -> Mapping[TableId, Discovered]:
        found = catalog.describe(connection, options, tables)
        return {d.schema.table: replace(d, schema=_stored(d.schema, storage)) for d in found}

    snapshot = PostgresSnapshot(options, [TABLE], described, pages_per_split=3)
    schema = snapshot.tables[TABLE].schema
    batches = [b for split in snapshot.splits(TABLE) for b in snapshot.read(split)]
    snapshot.close()
    copied = pa.Table.from_batches(batches, schema.arrow).sort_by("id").combine_chunks()
    at_once = _decoded(schema, [framed(messages)])
    in_parts = _decoded(schema, list(by_transaction(messages)))
    assert at_once.schema == copied.schema == schema.arrow
    expressions = ", ".join(oracle(f.name, f.type) for f in schema.arrow)
    with psycopg.connect(conninfo(options), autocommit=True) as connection:
        expected = connection.execute(f"select {expressions} from public.t order by id").fetchall()
    assert len(expected) == ROWS
    types = ["int8", *TYPES]
    for read in (at_once, in_parts, copied):
        for place, values in enumerate(zip(*expected, strict=True)):
            assert told(read.column(place).combine_chunks()) == list(values), types[place]
    assert not _storage_equal(at_once, copied)


@pytest.mark.integration
def test_contrib_types(pg15: PostgresServer) -> None:
    """Types of extensions, and xml, where the server has them: both readers print them alike."""
    values = [
        ("a=>1, b=>NULL", "Ünïcode", "<a/>"),
        ("", "", '<?xml version="1.0" encoding="latin1"?><b>é</b>'),
        (None, None, None),
    ]
    database = Database(pg15, "contrib")
    try:
        database.execute("create extension hstore; create extension citext")
        database.execute("create table t (id int8 primary key, h hstore, c citext, x xml)")
        with slot(database) as changes:
            for number, row in enumerate(values):
                database.execute("insert into t values (%s, %s, %s, %s)", [number, *row])
            messages = changes.messages()
        options = settings(database)
        snapshot = PostgresSnapshot(
            options,
            [TABLE],
            lambda c, tables: {d.schema.table: d for d in catalog.describe(c, options, tables)},
        )
        schema = snapshot.tables[TABLE].schema
        batches = [b for split in snapshot.splits(TABLE) for b in snapshot.read(split)]
        snapshot.close()
        copied = pa.Table.from_batches(batches, schema.arrow).combine_chunks()
        streamed = _decoded(schema, [framed(messages)])
        with psycopg.connect(conninfo(options), autocommit=True) as connection:
            # Without parameters the server sends what the output functions print.
            stored = connection.execute("select h, c, x from public.t order by id").fetchall()
        for read in (copied, streamed):
            assert (
                list(zip(*(told(read[n].combine_chunks()) for n in "hcx"), strict=True)) == stored
            )
    finally:
        database.drop()
