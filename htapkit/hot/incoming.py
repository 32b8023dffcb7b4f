"""Rows from files of others, sorted out against a table's own rows and those that came before.

What the table has goes before what a file has; of the files, the last word is the newest one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from htapkit.hot.names import column_definitions, name_list, quote, statement
from htapkit.hot.scratch import Scratch
from htapkit.model import TableSchema

_BATCH_ROWS = 65_536
Batches = Iterable[pa.RecordBatch]


class Incoming:
    """The rows of some files for one table with a key. A context manager.

    First `take` all batches, then `again`, then `settle`, then ask for `rows` and `gone`.
    """

    def __init__(self, schema: TableSchema, memory: str = "512MB") -> None:
        """Nothing has come yet."""
        self._schema = schema
        self._key = [quote(name) for name in schema.key]
        self._scratch = Scratch("incoming", memory)
        keys = TableSchema(schema.table, schema.key_columns)
        self._scratch.run(
            statement(
                "incoming_tables",
                columns=column_definitions(schema),
                keys=column_definitions(keys),
            )
        )

    def __enter__(self) -> Incoming:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._scratch.__exit__()

    def take(self, file: int, lines: Sequence[int], batch: pa.RecordBatch) -> None:
        """Rows in the table's Arrow schema; where they stand: the number of the file, the rows'."""
        placed = pa.table(
            [
                pa.array([file] * batch.num_rows, pa.int32()),
                pa.array(lines, pa.int64()),
                *batch.columns,
            ],
            names=["file", "line", *(f"c{i}" for i in range(batch.num_columns))],
        )
        self._scratch.run("INSERT INTO incoming SELECT * FROM batch", placed)

    def again(self) -> Iterator[tuple[int, int]]:
        """(file, line) of rows whose key stood before: they are left out."""
        self._scratch.run(statement("incoming_again", key=", ".join(self._key)))
        for batch in self._scratch.db.sql("FROM again ORDER BY ALL").to_arrow_reader(_BATCH_ROWS):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def settle(self, present: Batches, former: Callable[[], Batches]) -> tuple[int, int, int, int]:
        """Leave out what is there: (at the source, unchanged, replaced, given up).

        `present` are the table's rows, `former` those that earlier files brought; it is read
        twice. A former row leaves where a file has another one for its key (replaced), or the
        table has its key now (given up).
        """
        names = ", ".join(f"b.{name}" for name in self._key)
        for batch in former():
            text = f"INSERT INTO former SELECT {names} FROM batch AS b"  # noqa: S608 - quoted
            self._scratch.run(text, pa.Table.from_batches([batch]))
        at_source = given_up = unchanged = 0
        leave = statement("incoming_leave", equal=self._equal("i", "b"))
        for batch in present:
            rows = pa.Table.from_batches([batch])
            given_up += self._give_up("batch", rows)
            at_source += self._scratch.run(leave, rows)[0][0]
        columns = [quote(column.name) for column in self._schema.columns]
        same = " AND ".join(f"i.{c} IS NOT DISTINCT FROM b.{c}" for c in columns)
        for batch in former():
            rows = pa.Table.from_batches([batch])
            unchanged += self._scratch.run(statement("incoming_leave", equal=same), rows)[0][0]
        return at_source, unchanged, self._give_up("incoming", None), given_up

    def count(self) -> int:
        """How many rows are left."""
        return int(self._scratch.run("SELECT count(*) FROM incoming")[0][0])

    def rows(self, order: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows that are left, in the table's Arrow schema."""
        text = statement(
            "export",
            columns=name_list(column.name for column in self._schema.columns),
            table="incoming",
            range="true",
            order=name_list(order),
        )
        for batch in self._scratch.db.sql(text).to_arrow_reader(_BATCH_ROWS):
            if batch.num_rows:
                yield batch.cast(self._schema.arrow)

    def gone(self) -> pa.Table:
        """The keys of former rows that leave."""
        arrow = pa.schema([self._schema.arrow.field(name) for name in self._schema.key])
        return self._scratch.db.sql("SELECT DISTINCT * FROM gone").to_arrow_table().cast(arrow)

    def _give_up(self, rows: str, batch: pa.Table | None) -> int:
        names = ", ".join(f"f.{name}" for name in self._key)
        text = statement("incoming_gone", key=names, rows=rows, equal=self._equal("f", "b"))
        return int(self._scratch.run(text, batch)[0][0])

    def _equal(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{name} = {other}.{name}" for name in self._key)
