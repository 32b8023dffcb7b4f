"""PostgreSQL's types as Arrow's, by what the source says of a column; and parameters back.

The Arrow type of a column depends on its PostgreSQL type and modifier alone, never on where the
statement is answered or on the values in it. What Arrow has no exact type for is text as
PostgreSQL prints it: numeric without a declared scale, json, uuid, intervals, arrays, ranges,
enums.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

from htapkit.errors import HtapkitError
from htapkit.model import SqlType, native_arrow
from htapkit.plan.types import NAMES
from htapkit.serve.pgwire.messages import Field


class WrongParameter(HtapkitError):
    """A parameter's Arrow type that has no PostgreSQL text."""

    sqlstate = "42804"


def arrow_type(oid: int, typmod: int = -1) -> pa.DataType:
    """The Arrow type of a column."""
    known = native_arrow(SqlType(NAMES.get(oid, ""), oid, typmod))
    return known if known is not None else pa.string()


def rows_schema(fields: Sequence[Field]) -> pa.Schema:
    """The Arrow schema of a statement's rows."""
    return pa.schema(
        [pa.field(each.name.decode(), arrow_type(each.oid, each.typmod)) for each in fields]
    )


def parameters_schema(oids: Sequence[int]) -> pa.Schema:
    """The Arrow schema of a statement's parameters: `$1` and so on."""
    return pa.schema([pa.field(f"${n}", arrow_type(oid)) for n, oid in enumerate(oids, 1)])


def parameter_rows(batch: pa.RecordBatch) -> list[tuple[bytes | None, ...]]:
    """Each row's parameters as PostgreSQL's text. Raises WrongParameter."""
    columns = [[_text(value) for value in column.to_pylist()] for column in batch.columns]
    if not columns:
        return [()] * batch.num_rows
    return list(zip(*columns, strict=True))


def _text(value: object) -> bytes | None:  # noqa: PLR0911 - one for each type
    match value:
        case None:
            return None
        case bool():
            return b"t" if value else b"f"
        case bytes():
            return b"\\x" + value.hex().encode()
        case str():
            return value.encode()
        case int() | float():
            return repr(value).encode()  # PostgreSQL reads inf and nan, too
        case Decimal():
            return format(value, "f").encode()
        case datetime():
            return value.isoformat(" ", "microseconds").encode()
        case date() | time():
            return value.isoformat().encode()
        case timedelta():
            return f"{value // timedelta(microseconds=1)} microseconds".encode()
    raise WrongParameter(f"a parameter of Arrow type {type(value).__name__} has no PostgreSQL text")
