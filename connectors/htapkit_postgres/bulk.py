"""One bulk read of a query as exact Arrow batches, through ADBC.

Exists apart from `snapshot` because ADBC is fast and careless: infinite dates wrap around, numerics
are text. What it gives is mended or refused here; nothing passes in another type than the table's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import StatementOptions
from psycopg.conninfo import conninfo_to_dict

from htapkit.errors import (
    CatalogChanged,
    HtapkitError,
    SourceUnavailable,
    TableSetAside,
    UnfaithfulValue,
)
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY, TableSchema
from htapkit_postgres.connection import Settings, source_error
from htapkit_postgres.values import Unfit, convert, storage, validity, with_storage

# PostgreSQL counts from 2000, Arrow from 1970: ADBC adds the difference without a look at the
# overflow.
_WRAPPED_TIMESTAMPS: Final = {
    -9_222_425_352_054_775_809: TIMESTAMP_INFINITY,
    -9_222_425_352_054_775_808: -TIMESTAMP_INFINITY,
}
_WRAPPED_DATES: Final = {-2_147_472_692: DATE_INFINITY, -2_147_472_691: -DATE_INFINITY}
_FIRST_TIMESTAMP: Final = -210_866_803_200_000_000  # 4714-11-24 BC, the first that PostgreSQL has
_FIRST_DATE: Final = -2_440_588

# The table or a column is gone, renamed or of another type: what was described is no more.
_CHANGED: Final = frozenset({"42P01", "42703", "42804", "42883", "42809", "3F000", "42846"})
# The exported snapshot died with the connection that kept it.
_SNAPSHOT_GONE: Final = frozenset({"22023", "42704"})


def uri(conninfo: str) -> str:
    """A libpq connection string as the URI that ADBC wants."""
    given = {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
    return "postgresql:///?" + urlencode(given, quote_via=quote)


class BulkReader:
    """A connection in somebody's exported snapshot. One thread; `cancel` from any."""

    def __init__(self, settings: Settings, conninfo: str, snapshot: str, batch_bytes: int) -> None:
        """Connect and take the snapshot. Raises SourceError."""
        self._settings = settings
        self._batch_bytes = batch_bytes
        self._running: Any = None
        with self._translated(None, "open a bulk reader"):
            self._connection = adbc.connect(uri(conninfo), autocommit=False)
            try:
                self._run(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            except BaseException:
                self._connection.close()
                raise

    def read(self, query: str, schema: TableSchema) -> Iterator[pa.RecordBatch]:
        """The rows of a query that selects the projections of the schema's columns."""
        with self._translated(schema, "copy rows"), closing(self._connection.cursor()) as cursor:
            cursor.adbc_statement.set_options(
                **{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(self._batch_bytes)}
            )
            self._running = cursor
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                for batch in reader:
                    if batch.num_rows:
                        yield exact(batch, schema)
            self._running = None

    def one(self, query: str, schema: TableSchema) -> object:
        """The single value that a query gives."""
        with self._translated(schema, "look after the table"):
            return self._run(query)

    def cancel(self) -> None:
        """Stop what is being read. From any thread; harmless when nothing is."""
        running = self._running
        if running is not None:
            with self._quiet():
                running.adbc_cancel()

    def close(self) -> None:
        """Let go of the connection."""
        with self._quiet():
            self._connection.close()

    def _run(self, query: str) -> object:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, RuntimeError, OSError):
            return  # it is being thrown away in any case

    @contextmanager
    def _translated(self, schema: TableSchema | None, doing: str) -> Iterator[None]:
        try:
            yield
        except adbc_driver_manager.Error as error:
            raise self._error(schema, doing, error.sqlstate or "", str(error)) from None
        except (OSError, pa.ArrowException) as error:
            raise self._error(schema, doing, "", str(error)) from None

    def _error(
        self, schema: TableSchema | None, doing: str, state: str, message: str
    ) -> HtapkitError:
        if schema is not None and state in _CHANGED:
            return CatalogChanged(f"{schema.table} changed while it was copied ({message})")
        if schema is None and state in _SNAPSHOT_GONE:
            name = self._settings.source
            return SourceUnavailable(f"{name}: the snapshot of the copy is gone; it is taken again")
        of = f" of {schema.table}" if schema is not None else ""
        return source_error(self._settings, doing + of, state, message)


def exact(batch: pa.RecordBatch, schema: TableSchema) -> pa.RecordBatch:
    """A batch of projections in the table's own types. Raises UnfaithfulValue, CatalogChanged."""
    wanted = schema.arrow
    columns = []
    for array, column, field in zip(batch.columns, schema.columns, wanted, strict=True):
        try:
            columns.append(_exact_column(array, field.type))
        except Unfit as error:
            raise UnfaithfulValue(schema.table, column.name, str(error)) from error
        except TypeError as error:
            why = f"column {column.name} of {schema.table} changed its type while it was copied"
            raise CatalogChanged(why) from error
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _exact_column(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(array.type):
        return _unwrapped(array, wanted, np.int64, _FIRST_TIMESTAMP, _WRAPPED_TIMESTAMPS)
    if pa.types.is_date32(wanted) and pa.types.is_date32(array.type):
        return _unwrapped(array, wanted, np.int32, _FIRST_DATE, _WRAPPED_DATES)
    if array.type == wanted:
        return array
    if pa.types.is_decimal(wanted) and pa.types.is_string(array.type):
        return convert(array, wanted)
    raise TypeError(f"{array.type} instead of {wanted}")


def _unwrapped(
    array: pa.Array,
    wanted: pa.DataType,
    dtype: type[np.signedinteger[Any]],
    first: int,
    wrapped: Mapping[int, int],
) -> pa.Array:
    """Dates or timestamps with their infinities where they belong."""
    integers = pa.int64() if dtype is np.int64 else pa.int32()
    least = pc.min(array.view(integers)).as_py()
    if least is None or least >= first:
        return array if array.type == wanted else array.view(wanted)
    values = storage(array, dtype)
    low = np.flatnonzero((values < first) & array.is_valid().to_numpy(zero_copy_only=False))
    for row in low.tolist():
        finite = wrapped.get(int(values[row]))
        if finite is None:
            raise Unfit("a timestamp after the year 294246")
        values[row] = finite
    return with_storage(wanted, values, validity(array))


def select(schema: TableSchema, projections: Sequence[str], relation: str, condition: str) -> str:
    """The query of one part of a table."""
    if not projections:
        raise TableSetAside(schema.table, "it has no columns")
    return " ".join(["SELECT", ", ".join(projections), "FROM", relation, condition])
