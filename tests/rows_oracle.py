"""PostgreSQL as the oracle of our DataRow messages: asks it, and compares byte by byte."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import TypeVar
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
import pytest
from psycopg import pq

from htapkit.serve.pgwire import rows
from htapkit.serve.pgwire.rows import WireColumn

T = TypeVar("T")
Answers = tuple[list[list[bytes | None]], list[WireColumn]]
_TEXT = 25


def ask(link: psycopg.Connection, sql: str, parameter: bytes, oid: int, form: int = 0) -> Answers:
    """The single column's values in text and in binary, and how PostgreSQL announces it."""
    answers, columns = [], []
    for binary in (False, True):
        result = link.pgconn.exec_params(sql.encode(), [parameter], [oid], [form], int(binary))
        assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message.decode()
        answers.append([result.get_value(row, 0) for row in range(result.ntuples)])
        columns.append(WireColumn(result.ftype(0), result.fmod(0), binary))
    return answers, columns


def messages(table: Sequence[Sequence[bytes | None]]) -> bytes:
    """DataRow messages, written plainly."""
    out = b""
    for row in table:
        body = struct.pack("!h", len(row))
        for cell in row:
            body += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
        out += b"D" + struct.pack("!i", len(body) + 4) + body
    return out


def check(
    array: pa.Array, column: WireColumn, expected: list[bytes | None], zone: ZoneInfo | None = None
) -> None:
    """Both ways to render, the whole, a slice of it, and chunk by chunk."""
    assert rows.encodable(array.type, column, zone)
    use = zone or UTC
    for first, last in ((0, len(array)), (len(array) // 3, 2 * len(array) // 3), (1, 4)):
        batch = pa.record_batch([array.slice(first, last - first)], names=["x"])
        want = messages([[cell] for cell in expected[first:last]])
        assert len(batch) == len(expected[first:last])
        for render in (rows.many_rows, rows.few_rows, rows.data_rows):
            got = bytes(render(batch, [column], use))
            if got != want:
                pytest.fail(difference(batch, column, render, expected[first:last], use))


def difference(
    batch: pa.RecordBatch,
    column: WireColumn,
    render: Callable[..., bytes | memoryview],
    expected: list[bytes | None],
    zone: object,
) -> str:
    """The first row that is not as PostgreSQL sends it."""
    for row, cell in enumerate(expected):
        got = bytes(render(batch.slice(row, 1), [column], zone))
        if got != messages([[cell]]):
            value = batch.column(0)[row : row + 1]
            return f"{render.__name__} {column}: row {row} {value}: {cell!r}, and not {got!r}"
    return f"{render.__name__} {column}: only as a whole"


def nulled(rng: random.Random, values: Sequence[T]) -> list[T | None]:
    return [None if rng.random() < 0.1 else value for value in values]


def literal(values: Sequence[object]) -> bytes:
    """A text array, written plainly."""
    quoted = []
    for value in values:
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        quoted.append("NULL" if value is None else f'"{text}"')
    return ("{" + ",".join(quoted) + "}").encode()


def through_text(link: psycopg.Connection, values: Sequence[object], type_: str) -> Answers:
    sql = f"select u::{type_} from unnest($1::text[]) with ordinality w(u, n) order by n"
    return ask(link, sql, literal(values), 1009)


def both(array: pa.Array, found: Answers, zone: ZoneInfo | None = None) -> None:
    """Check text and binary."""
    (text, binary), (as_text, as_binary) = found
    check(array, as_text, text, zone)
    check(array, as_binary, binary, zone)


def round_trip(link: psycopg.Connection, array: pa.Array, oid: int, type_: str) -> None:
    """array_literal and text_values, read back by PostgreSQL."""
    sql = "select u from unnest($1::{}[]) with ordinality w(u, n) order by n"
    texts = rows.text_values(array, oid, UTC)
    got = ask(link, sql.format(type_), rows.array_literal(array, oid), 0)[0][0]
    again = ask(link, sql.format("text"), rows.array_literal(texts, _TEXT), 0)[0][0]
    want = [None if text is None else text.encode() for text in texts.to_pylist()]
    assert again == want
    assert got == want
    few = array.slice(2, 60)
    assert ask(link, sql.format(type_), rows.array_literal(few, oid), 0)[0][0] == want[2:62]
