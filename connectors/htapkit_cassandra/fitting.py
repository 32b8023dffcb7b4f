"""Columns of Arrow as the node's bytes: which fit a table, and which values do not. Pure.

A column fits as a whole or is refused before anything is read; of one that fits, each value is
taken or rejected by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

import pyarrow as pa

from htapkit.errors import HtapkitError
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit_cassandra import cql, encoding
from htapkit_cassandra.cql import Cql

Value = bytes | None
_UNITS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}  # in nanoseconds
_DAY_MILLISECONDS: Final = 86_400_000


class LoadRefused(HtapkitError):
    """What is to be loaded does not fit the table, or the table takes no load: nothing was done."""

    sqlstate = "0A000"


class WrongColumns(LoadRefused):
    """A column is not the table's, or one of its key is missing."""

    sqlstate = "42703"


class WrongType(LoadRefused):
    """A column's type has no values in common with the table's, or would be rounded."""

    sqlstate = "42804"


@dataclass(frozen=True, slots=True)
class Target:
    """A column of the table."""

    name: str
    type: Cql
    shown: str  # its type as the node names it
    kind: str  # partition_key, clustering, static or regular
    alone: bool = False  # the only one of its partition key

    @property
    def identifies(self) -> bool:
        """Whether it is of the key."""
        return self.kind in {"partition_key", "clustering"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows of a batch that were taken, column by column, and why others were not."""

    lines: tuple[int, ...]  # their numbers within the batch, from 0
    columns: tuple[list[Value], ...]
    rejected: tuple[tuple[int, str], ...]


class Fit:
    """How the columns of a schema go into a table's."""

    def __init__(
        self,
        table: object,
        targets: Sequence[Target],
        schema: pa.Schema,
        *,
        followed: bool = False,
    ) -> None:
        """`followed`: by a copy, which has to hold each value, too.

        Raises WrongColumns, WrongType, LoadRefused.
        """
        if any(target.type.name == "counter" for target in targets):
            raise LoadRefused(f"{table} is a table of counters, which only count: nothing is set")
        _check_names(table, targets, schema.names)
        self.targets = tuple(target for target in targets if target.name in schema.names)
        self.untouched = tuple(t.name for t in targets if t.name not in schema.names)
        self._makers = [
            maker(table, target, schema.field(target.name).type) for target in self.targets
        ]
        if followed:
            self._makers = [
                partial(_held, target.type, make)
                for target, make in zip(self.targets, self._makers, strict=True)
            ]

    @property
    def relisted(self) -> bool:
        """Whether a list is written element by element: writing it twice doubles it."""
        return any(t.type.name == "list" and t.type.brackets for t in self.targets)

    def encoded(self, batch: pa.RecordBatch) -> Encoded:
        """The node's bytes of each row that fits."""
        reasons: dict[int, str] = {}
        columns = []
        for target, make in zip(self.targets, self._makers, strict=True):
            values = batch.column(target.name)
            columns.append(_column(target, values, make, reasons))
        if not reasons:
            return Encoded(tuple(range(batch.num_rows)), tuple(columns), ())
        kept = [n for n in range(batch.num_rows) if n not in reasons]
        return Encoded(
            tuple(kept),
            tuple([column[n] for n in kept] for column in columns),
            tuple(sorted(reasons.items())),
        )


def _check_names(table: object, targets: Sequence[Target], given: Sequence[str]) -> None:
    known = [target.name for target in targets]
    strange = [name for name in given if name not in known]
    if strange or len(set(given)) < len(given):
        raise WrongColumns(
            f"{table} has no column {', '.join(strange)}; it has {', '.join(known)}"
            if strange
            else f"{table}: a column is given twice: {', '.join(given)}"
        )
    missing = [t.name for t in targets if t.identifies and t.name not in given]
    if missing:
        raise WrongColumns(f"{table}: no column {', '.join(missing)}, which its key needs")


def _column(
    target: Target,
    values: pa.Array,
    make: Callable[[Any], Value],
    reasons: dict[int, str],
) -> list[Value]:
    found: list[Value] = []
    for row, value in enumerate(plain(values)):
        made: Value = None
        try:
            if value is not None:
                made = make(value)
            if target.identifies and made is None:
                raise ValueError("NULL, in a column of the key")  # noqa: TRY301
            if target.identifies and made is not None and len(made) > 0xFFFF:
                raise ValueError("more than 65,535 bytes in a key")  # noqa: TRY301
            if target.alone and not made:
                raise ValueError("empty, and the only column of the partition key")  # noqa: TRY301
        except UnicodeError:  # its own text would show the value
            reasons.setdefault(row, f"{target.name}: not UTF-8")
        except ValueError as why:
            reasons.setdefault(row, f"{target.name}: {why}")
        found.append(made)
    return found


def plain(values: pa.Array) -> list[Any]:
    """What `maker` takes: numbers for times, so that nothing is lost on the way."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    type_ = values.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        # What is no UTF-8 gives texts that cannot be encoded again: `_column` rejects them.
        raw = values.cast(pa.large_binary()).to_pylist()
        return [None if each is None else each.decode(errors="surrogateescape") for each in raw]
    if pa.types.is_date32(type_) or pa.types.is_time32(type_):
        return values.cast(pa.int32()).to_pylist()
    if pa.types.is_date64(type_) or pa.types.is_time64(type_) or pa.types.is_timestamp(type_):
        return values.cast(pa.int64()).to_pylist()
    return values.to_pylist()


def family(type_: pa.DataType) -> str:
    """Types of one family are taken alike; the name is what a message calls it."""
    if isinstance(type_, pa.BaseExtensionType):
        return "uuid" if type_.extension_name == "arrow.uuid" else family(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return family(type_.value_type)
    for name, belongs in _FAMILIES.items():
        if belongs(type_):
            return name
    return str(type_)


_FAMILIES: Final[Mapping[str, Callable[[pa.DataType], bool]]] = {
    "null": pa.types.is_null,
    "boolean": pa.types.is_boolean,
    "integer": pa.types.is_integer,
    "float": lambda t: pa.types.is_floating(t) and t.bit_width <= 32,
    "double": pa.types.is_float64,
    "decimal": pa.types.is_decimal,
    "text": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t),
    "16 bytes": lambda t: pa.types.is_fixed_size_binary(t) and t.byte_width == 16,
    "bytes": lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t),
    "date": pa.types.is_date,
    "time": pa.types.is_time,
    "timestamp with time zone": lambda t: pa.types.is_timestamp(t) and t.tz is not None,
    "timestamp without time zone": pa.types.is_timestamp,
    "interval": pa.types.is_interval,
}


def _is_list(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    )


def maker(table: object, target: Target, arrow: pa.DataType) -> Callable[[Any], Value]:
    """From a value of `plain` to the node's bytes, or ValueError. Raises WrongType."""
    arrow = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
    type_, given = target.type, family(arrow)
    if type_.name == "vector" and type_.arguments[0].name not in encoding.FIXED:
        raise LoadRefused(
            f"{table}, column {target.name}: a {target.shown}, whose elements have no fixed size"
        )
    if given == "null":
        return _nothing
    if type_.name in encoding.FROM_TEXT:
        found = _SCALARS[type_.name].get(given)
        expected = " or ".join(_SCALARS[type_.name])
    else:
        found = partial(encoding.from_json, type_) if given == "text" else None
        expected = "text with JSON"
        taken = _NUMBERS.get(type_.arguments[0].name, {}) if type_.name == "vector" else {}
        if taken:
            expected += f" or a list of {' or '.join(taken)}"
            if _is_list(arrow) and (element := taken.get(family(arrow.value_type))):
                found = partial(_vector, type_.length, element)
    if found is None:
        hint = "; AT TIME ZONE 'UTC' gives it one" if given.endswith("without time zone") else ""
        raise WrongType(
            f"{table}, column {target.name}: {arrow} is given, and {target.shown} takes "
            f"{expected}{hint}"
        )
    return found if given not in _TIMED else partial(_timed, found, _nanoseconds_each(arrow))


_TIMED: Final = frozenset({"date", "time", "timestamp with time zone"})


def _held(type_: Cql, make: Callable[[Any], Value], value: object) -> Value:
    """What the copy can hold as well: one value that it cannot would take its table out of it."""
    made = make(value)
    if made is not None:
        try:
            cql.as_text(type_, made)
        except ValueError as why:
            raise ValueError(f"{why}; the table is followed, and its copy cannot have it") from None
    return made


def _nothing(_: object) -> None:
    return None


def _timed(make: Callable[..., Value], unit: int, value: int) -> Value:
    return make(value, unit)


def _nanoseconds_each(arrow: pa.DataType) -> int:
    if pa.types.is_date32(arrow):
        return _DAY_MILLISECONDS * 10**6
    return _UNITS[arrow.unit] if not pa.types.is_date64(arrow) else 10**6


def _timestamp(value: int, unit: int) -> bytes:
    if abs(value) >= TIMESTAMP_INFINITY:
        raise ValueError("an infinite timestamp")
    count, rest = divmod(value * unit, 10**6)
    if rest:
        raise ValueError("it has microseconds, and a timestamp of Cassandra has milliseconds")
    return encoding.milliseconds(count)


def _date(value: int, unit: int) -> bytes:
    if abs(value) >= DATE_INFINITY and unit > 10**6:
        raise ValueError("an infinite date")
    count, rest = divmod(value * unit, _DAY_MILLISECONDS * 10**6)
    if rest:
        raise ValueError("a date with a time of day")
    return encoding.days(count)


def _time(value: int, unit: int) -> bytes:
    return encoding.nanoseconds(value * unit)


def _vector(length: int, element: Callable[[Any], Value], values: Sequence[Any]) -> bytes:
    if len(values) != length or None in values:
        raise ValueError(f"not {length} elements, or NULL within them")
    return b"".join(made for value in values if (made := element(value)) is not None)


def _float(value: float) -> bytes:
    return struct.pack(">f", value)


def _double(value: float) -> bytes:
    return struct.pack(">d", value)


def _varint(value: Decimal) -> bytes:
    return encoding.varint(encoding.whole(value))


def _interval(value: Any) -> bytes:  # noqa: ANN401 - Arrow's own triple
    return encoding.duration(value.months, value.days, value.nanoseconds)


def _bytes_of(*, by_time: bool) -> Callable[[bytes], bytes]:
    return partial(encoding.unique, by_time=by_time)


def _boolean(value: bool) -> bytes:  # noqa: FBT001 - it is the value
    return b"\1" if value else b"\0"


_TEXT = encoding.FROM_TEXT
_SCALARS: Final[Mapping[str, Mapping[str, Callable[..., Value]]]] = {
    "ascii": {"text": _TEXT["ascii"]},
    **{
        name: {"integer": partial(encoding.integer, name)}
        for name in ("bigint", "int", "smallint", "tinyint")
    },
    "blob": {"bytes": bytes, "16 bytes": bytes},
    "boolean": {"boolean": _boolean},
    "date": {"date": _date},
    "decimal": {
        "decimal": encoding.decimal,
        "integer": lambda value: encoding.decimal(Decimal(value)),
        "text": _TEXT["decimal"],
    },
    "double": {"double": _double, "float": _double},
    "duration": {"interval": _interval, "text": _TEXT["duration"]},
    "float": {"float": _float},
    "inet": {"text": _TEXT["inet"]},
    "text": {"text": _TEXT["text"]},
    "time": {"time": _time, "text": _TEXT["time"]},
    "timestamp": {"timestamp with time zone": _timestamp},
    **{
        name: {"text": _TEXT[name], "uuid": made, "16 bytes": made}
        for name, made in (
            ("timeuuid", _bytes_of(by_time=True)),
            ("uuid", _bytes_of(by_time=False)),
        )
    },
    "varchar": {"text": _TEXT["varchar"]},
    "varint": {"decimal": _varint, "integer": encoding.varint, "text": _TEXT["varint"]},
}
_NUMBERS: Final = {name: _SCALARS[name] for name in ("bigint", "double", "float", "int")}
"""Elements of vectors that are taken from lists: none is rounded there either."""
