"""What would make a range of the copy equal to the source's, both at one position.

Rows go through a database of its own, which spills to disk: neither side is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from htapkit.hot.names import column_definitions, quote, statement
from htapkit.hot.scratch import Scratch
from htapkit.hot.times import in_range, time_column
from htapkit.model import Op, RowChanges, TableSchema

_BATCH_ROWS = 65_536


class Difference:
    """Two sides of one table with a key. A context manager.

    First `copy` with all rows of the copy, then `source` with the source's, then `elsewhere` with
    the copy's again; then ask for the changes. A key counts when it is in the range on either side.
    """

    def __init__(
        self,
        schema: TableSchema,
        column: int,
        lower: int | None,
        upper: int | None,
        memory: str = "512MB",
    ) -> None:
        """Times in [lower, upper) of the column with this ordinal. Raises StoreError."""
        self._schema = schema
        self._range = in_range(time_column(schema, column), lower, upper)
        self._scratch = Scratch("difference", memory)
        self._scratch.run(statement("difference_tables", columns=column_definitions(schema)))

    def __enter__(self) -> Difference:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._scratch.__exit__()

    def copy(self, batches: Iterable[pa.RecordBatch]) -> None:
        """The copy's rows: those in the range are kept."""
        self._take("difference_range", batches)

    def source(self, batches: Iterable[pa.RecordBatch]) -> None:
        """The source's rows: those in the range, and those whose key the copy has there."""
        self._take("difference_source", batches)

    def elsewhere(self, batches: Iterable[pa.RecordBatch]) -> None:
        """The copy's rows again: keys that only the source has in the range."""
        self._take("difference_copy", batches)

    def rows(self) -> int:
        """How many rows of the source are compared."""
        found = self._scratch.run("SELECT count(*) FROM source")
        return int(found[0][0])

    def changes(self) -> Iterator[RowChanges]:
        """What has to be done to the copy: each key once."""
        columns = [quote(c.name) for c in self._schema.columns]
        text = statement(
            "differences",
            insert=str(int(Op.INSERT)),
            update=str(int(Op.UPDATE)),
            delete=str(int(Op.DELETE)),
            source_columns=_of("s", columns),
            copy_columns=_of("c", columns),
            same_key=self._same_key("s"),
            different=" OR ".join(f"s.{name} IS DISTINCT FROM c.{name}" for name in columns),
        )
        reader = self._scratch.db.sql(text).to_arrow_reader(_BATCH_ROWS)
        for batch in reader:
            rows = pa.RecordBatch.from_arrays(batch.columns[1:], names=self._schema.arrow.names)
            yield RowChanges(
                self._schema.table,
                batch.column(0).cast(pa.int8()),
                rows.cast(self._schema.arrow),
                pa.array([0] * batch.num_rows, pa.int32()),
            )

    def _take(self, name: str, batches: Iterable[pa.RecordBatch]) -> None:
        columns = [quote(c.name) for c in self._schema.columns]
        text = statement(
            name, columns=_of("b", columns), range=self._range, same_key=self._same_key("b")
        )
        for batch in batches:
            self._scratch.run(text, pa.Table.from_batches([batch]))

    def _same_key(self, alias: str) -> str:
        names = [quote(name) for name in self._schema.key]
        return " AND ".join(f"{alias}.{name} = c.{name}" for name in names)


def _of(alias: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{alias}.{name}" for name in columns)
