"""Parquet that somebody else wrote, as rows of a table: what fits, and why the rest does not.

A file whose columns are not the table's is refused as a whole. Of one whose columns are, each row
is taken or rejected by itself. No value is ever rounded, cut or guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from htapkit.errors import ConfigError
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY, Column, TableSchema

_BATCH_ROWS = 16_384
_FILES_MAX = 10_000
_UUID = r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"
_DAY_MICROSECONDS = 86_400_000_000
_DAYS = (-2_440_588, 2_145_042_906)  # PostgreSQL's dates: from the first, before the second
_MICROSECONDS_MIN = _DAYS[0] * _DAY_MICROSECONDS
_PAGE_BYTES = 1 << 20  # read at once of a column, however large the row group


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows of which table, with times in [lower, upper), in microseconds."""

    schema: TableSchema
    time_column: str
    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of one batch of a file."""

    lines: tuple[int, ...]  # of `rows`: their numbers in the file, from 1
    rows: pa.RecordBatch  # in the table's Arrow schema
    rejected: tuple[tuple[int, str], ...]  # (line, reason)
    outside: int  # rows that are not in the range


def files_of(folder: Path | None, path: str) -> tuple[Path, ...]:
    """The Parquet files of a path below the folder: itself, or all in it. Raises ConfigError.

    As everywhere, names that begin with `_` or `.` are of writers that have not finished.
    """
    if folder is None:
        raise ConfigError("imports.folder is not set: this server takes no files")
    root = folder.resolve()
    try:
        found = (root / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # not there, no name at all, a circle of links
        found = root.parent
    if not found.is_relative_to(root):
        raise ConfigError(f"'{path}': there is no such file or folder below imports.folder")
    files = _inside_folder(found) if found.is_dir() else [found]
    astray = next((file for file in files if not file.resolve().is_relative_to(root)), None)
    if astray is not None:
        raise ConfigError(f"{astray.relative_to(root)} is a link that leaves imports.folder")
    if not files:
        raise ConfigError(f"'{path}' has no file that ends in .parquet")
    if len(files) > _FILES_MAX:
        raise ConfigError(f"'{path}' has {len(files)} files; at most {_FILES_MAX} at a time")
    return tuple(files)


def _inside_folder(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*.parquet") if path.is_file())
    return sorted(
        path
        for path in found
        if not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
    )


def check_file(path: Path, schema: TableSchema) -> int:
    """How many rows a file has. Raises ConfigError where its columns are not the table's."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path.name} cannot be read as Parquet: {error}") from error
    with file:
        arrow = file.schema_arrow
        names = [column.name for column in schema.columns]
        strange = [name for name in arrow.names if name not in names]
        if strange or len(set(arrow.names)) < len(arrow.names):
            known = ", ".join(names)
            raise ConfigError(
                f"{path.name} has other columns than {schema.table}: "
                f"{', '.join(strange) or 'one of them twice'}; the table has {known}"
            )
        for column in schema.columns:
            if column.name in arrow.names:
                _check_type(path, column, arrow.field(column.name).type)
            elif not column.nullable or column.name in schema.key:
                raise ConfigError(f"{path.name} has no column {column.name}, which is never NULL")
        return int(file.metadata.num_rows)


def batches_of(path: Path, wanted: Wanted) -> Iterator[Taken]:
    """The rows of a checked file. Raises ConfigError where it cannot be read to its end."""
    done = 0
    try:
        with pq.ParquetFile(path, buffer_size=_PAGE_BYTES, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield _taken(batch, wanted, done)
                done += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path.name}, after row {done}: {error}") from error


def _check_type(path: Path, column: Column, found: pa.DataType) -> None:
    if _family(found) != _family(column.arrow) or _narrows(found, column.arrow):
        raise ConfigError(
            f"{path.name}: column {column.name} is {found}, and {column.arrow} is expected "
            f"({column.type.name})"
        )


def _family(type_: pa.DataType) -> str:
    """Types of one family have values in common; which of them fit is asked row by row."""
    if pa.types.is_dictionary(type_):
        return _family(type_.value_type)
    if pa.types.is_timestamp(type_):
        return "timestamptz" if type_.tz is not None else "timestamp"
    families: dict[str, Callable[[pa.DataType], bool]] = {
        "integer": pa.types.is_integer,
        "float": pa.types.is_floating,
        "decimal": pa.types.is_decimal,
        "date": pa.types.is_date,
        "time": pa.types.is_time,
        "bool": pa.types.is_boolean,
    }
    for name, belongs in families.items():
        if belongs(type_):
            return name
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return "binary"
    return str(type_)


def _narrows(found: pa.DataType, target: pa.DataType) -> bool:
    """A cast of floats rounds without a word."""
    return pa.types.is_floating(target) and found.bit_width > target.bit_width


def _taken(batch: pa.RecordBatch, wanted: Wanted, before: int) -> Taken:
    schema = wanted.schema
    reasons: dict[int, str] = {}
    columns = []
    for column in schema.columns:
        values = _cast(batch, column, reasons)
        for row in _where(_refused(values, column, key=column.name in schema.key)):
            reasons.setdefault(row, f"{column.name}: {_why(values[row], column)}")
        columns.append(values)
    rows = pa.RecordBatch.from_arrays(columns, schema=schema.arrow)
    inside = _inside(rows, wanted)
    for row in _where(pc.is_null(inside)):
        reasons.setdefault(row, f"{wanted.time_column}: no time at which it could be found")
    keep = np.array(pc.fill_null(inside, True))  # noqa: FBT003 - Arrow's own
    outside = int((~keep).sum())
    reasons = {row: why for row, why in reasons.items() if keep[row]}
    keep[list(reasons)] = False
    lines = np.flatnonzero(keep)
    return Taken(
        tuple((lines + before + 1).tolist()),
        rows.take(pa.array(lines)),
        tuple((before + row + 1, why) for row, why in sorted(reasons.items())),
        outside,
    )


def _cast(batch: pa.RecordBatch, column: Column, reasons: dict[int, str]) -> pa.Array:
    """The column in the table's type; NULL, with a reason, where a value does not fit."""
    if column.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, column.arrow)
    values = batch.column(column.name)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        return _exactly(values, column)
    except pa.ArrowInvalid:
        return pa.concat_arrays([_cast_one(values, n, column, reasons) for n in range(len(values))])


def _cast_one(values: pa.Array, row: int, column: Column, reasons: dict[int, str]) -> pa.Array:
    try:
        return _exactly(values.slice(row, 1), column)
    except pa.ArrowInvalid:
        reasons[row] = f"{column.name}: the value does not fit into {column.type.name}"
        return pa.nulls(1, column.arrow)


def _exactly(values: pa.Array, column: Column) -> pa.Array:
    """In the table's type. Raises ArrowInvalid, also for text that is no UTF-8."""
    values.validate(full=True)
    return values.cast(column.arrow)


def _refused(values: pa.Array, column: Column, *, key: bool) -> pa.Array:
    """Which values PostgreSQL would not have taken."""
    refused = pc.is_null(values) if key or not column.nullable else pa.array([False] * len(values))
    if pa.types.is_timestamp(values.type):
        micros = values.cast(pa.int64())
        early = pc.and_(
            pc.less(micros, _MICROSECONDS_MIN), pc.not_equal(micros, -TIMESTAMP_INFINITY)
        )
        refused = pc.or_(refused, pc.fill_null(early, False))  # noqa: FBT003 - Arrow's own
    if pa.types.is_date(values.type):
        days = values.cast(pa.int32())
        odd = pc.or_(pc.less(days, _DAYS[0]), pc.greater_equal(days, _DAYS[1]))
        finite = pc.not_equal(pc.abs(days), DATE_INFINITY)
        refused = pc.or_(refused, pc.fill_null(pc.and_(odd, finite), False))  # noqa: FBT003
    if pa.types.is_string(values.type):
        odd = pc.match_substring(values, "\0")
        length = column.type.length
        if length is not None:
            odd = pc.or_(odd, pc.greater(pc.utf8_length(values), length))
        if column.type.name == "bpchar" and length is not None:
            odd = pc.or_(odd, pc.less(pc.utf8_length(values), length))
        if column.type.name == "uuid":
            odd = pc.or_(odd, pc.invert(pc.match_substring_regex(values, _UUID)))
        refused = pc.or_(refused, pc.fill_null(odd, False))  # noqa: FBT003 - Arrow's own
    return refused


def _why(value: pa.Scalar, column: Column) -> str:
    if not value.is_valid:
        return "NULL"
    if column.type.name == "uuid":
        return "no uuid as PostgreSQL prints it"
    if pa.types.is_temporal(value.type):
        return f"PostgreSQL has no such {column.type.name}"
    return f"no {column.type.name} of its length, or with a zero byte"


def _inside(rows: pa.RecordBatch, wanted: Wanted) -> pa.Array:
    """Whether the time of each row is in the range; NULL where it has none, or an infinite one."""
    times = rows.column(wanted.time_column)
    if pa.types.is_date(times.type):
        numbers, unit = times.cast(pa.int32()).cast(pa.int64()), _DAY_MICROSECONDS
        infinity = DATE_INFINITY
    else:
        numbers, unit, infinity = times.cast(pa.int64()), 1, TIMESTAMP_INFINITY
    inside = pc.is_valid(numbers)
    if wanted.lower is not None:
        inside = pc.and_(inside, pc.greater_equal(numbers, -(-wanted.lower // unit)))
    if wanted.upper is not None:
        inside = pc.and_(inside, pc.less(numbers, -(-wanted.upper // unit)))
    finite = pc.and_(pc.less(numbers, infinity), pc.greater(numbers, -infinity))
    return pc.if_else(pc.fill_null(finite, False), inside, None)  # noqa: FBT003 - Arrow's own


def _where(mask: pa.Array) -> Sequence[int]:
    found: list[int] = np.flatnonzero(np.array(pc.fill_null(mask, False))).tolist()  # noqa: FBT003
    return found
