r"""A small sqllogictest runner: SQL and its answers in one file that anybody can read.

A file is blocks with an empty line between them. Known blocks:

    statement ok                    SQL that must work
    statement error [regex]         SQL that must fail, its message (or SQLSTATE) matching
    query TYPES [SORT] [name]       SQL, `----`, then its rows: one a line, values between tabs
    halt                            ends the file

TYPES has a letter for each column: T exact text, I a number, exact as well, R a float4 or float8
whose last digits PostgreSQL leaves open (sums and averages: relative 1e-12). SORT is `nosort`
(default) or `rowsort`. `skipif ENGINE` and `onlyif ENGINE` stand above a block. `# route: hot`
holds for all later queries of the file up to the next such line: where the answer must come from on
our port (`any`: no matter). Other lines that start with `#` are comments. NULL is printed `NULL`,
the empty string `(empty)`, tabs and line breaks in values `\t` and `\n`.

The statements before the first query are the file's setup: they are run once, at the source.

`python -m htapkit.testing.slt --dsn DSN FILE…` checks files against a PostgreSQL; with `--write` it
writes PostgreSQL's answers into them instead. Answers are never taken from anything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click
import psycopg
from psycopg import pq

FLOAT_RELATIVE = 1e-12
SORTS = ("nosort", "rowsort")

Row = tuple[str | None, ...]


class SltMismatch(AssertionError):
    """The engine answered, and not what the file says."""


class SltMalformed(AssertionError):
    """The file itself is wrong."""


class Refused(Exception):
    """The engine's own error: message and SQLSTATE."""


class Engine(Protocol):
    """Runs SQL and gives the values as PostgreSQL prints them."""

    name: str

    def run(self, sql: str) -> Sequence[Row]:
        """The rows of the last statement; Refused when the engine refuses."""
        ...

    def last_route(self) -> str | None:
        """Where the last query was answered; None for an engine without routes."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """One `statement` or `query` of a file, and what it must give."""

    line: int
    kind: str  # statement or query
    expects: str  # ok, error, or the letters of the columns
    argument: str  # the regex of an error, or the name of a query
    sort: str
    sql: str
    rows: tuple[str, ...]
    route: str  # "" = any


@dataclass(frozen=True, slots=True)
class Script:
    """A file: what prepares its tables, and what is asked of them."""

    setup: tuple[Record, ...]
    records: tuple[Record, ...]


def parse(text: str, engine: str) -> Script:
    """The records of a file that apply to `engine`, in order."""
    records = list(_records(text, engine))
    first = next((i for i, record in enumerate(records) if record.kind == "query"), len(records))
    return Script(tuple(records[:first]), tuple(records[first:]))


def _records(text: str, engine: str) -> Iterator[Record]:
    route = ""
    for start, block in _blocks(text):
        lines: list[tuple[int, str]] = []
        for number, line in enumerate(block, start):
            if found := re.fullmatch(r"#\s*route:\s*(\w+)\s*", line):
                route = "" if found[1] == "any" else found[1]
            elif not line.startswith("#") or "----" in (content for _, content in lines):
                lines.append((number, line))
        applies = True
        while lines and lines[0][1].split()[0] in {"skipif", "onlyif"}:
            word, name = lines.pop(0)[1].split()[:2]
            applies = applies and (name == engine) == (word == "onlyif")
        if not lines or not applies:
            continue
        if lines[0][1].split()[0] == "halt":
            return
        yield _record(lines, route)


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, lines) of each run of lines without an empty one."""
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _record(lines: Sequence[tuple[int, str]], route: str) -> Record:
    number, head = lines[0]
    words = head.split()
    body = [line for _, line in lines[1:]]
    cut = body.index("----") if "----" in body else len(body)
    sql, rows = "\n".join(body[:cut]), tuple(body[cut + 1 :])
    if len(words) < 2 or not sql:
        raise SltMalformed(f"line {number}: '{head}' lacks a word, or its SQL")
    kind, expects, *rest = words
    if kind == "statement" and expects in {"ok", "error"}:
        return Record(number, kind, expects, " ".join(rest), "nosort", sql, (), route)
    if kind != "query" or not re.fullmatch("[TIR]+", expects) or cut == len(body):
        raise SltMalformed(
            f"line {number}: '{head}' is neither statement ok|error nor query [TIR]… with ----"
        )
    sort = rest.pop(0) if rest and rest[0] in SORTS else "nosort"
    return Record(number, kind, expects, " ".join(rest), sort, sql, rows, route)


def render(row: Row) -> str:
    """A row as one line of a file."""
    return "\t".join(map(_render_value, row))


def _render_value(value: str | None) -> str:
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return escaped.replace("\r", "\\r") or "(empty)"


def _same(got: str, expected: str, types: str) -> bool:
    left, right = got.split("\t"), expected.split("\t")
    return len(left) == len(right) == len(types) and all(
        a == b or (letter == "R" and _close(a, b))
        for a, b, letter in zip(left, right, types, strict=True)
    )


def _close(got: str, expected: str) -> bool:
    try:
        return math.isclose(float(got), float(expected), rel_tol=FLOAT_RELATIVE)
    except ValueError:
        return False


def check(record: Record, engine: Engine) -> None:
    """Run one record; SltMismatch when the answer, or the place it came from, differs."""
    where = f"{engine.name}, line {record.line} {record.argument}".rstrip()
    try:
        answer = engine.run(record.sql)
    except Refused as error:
        if record.expects == "error" and re.search(record.argument, str(error)):
            return
        raise SltMismatch(f"{where}: {error}\n{record.sql}") from error
    if record.expects == "error":
        raise SltMismatch(f"{where}: this should have failed\n{record.sql}")
    if record.kind == "statement":
        return
    got, expected = [render(row) for row in answer], list(record.rows)
    if record.sort == "rowsort":
        got, expected = sorted(got), sorted(expected)
    agree = len(got) == len(expected) and all(
        _same(a, b, record.expects) for a, b in zip(got, expected, strict=True)
    )
    if not agree:
        said = "\n".join(["expected:", *expected, "got:", *got])
        raise SltMismatch(f"{where}: {record.sql}\n{said}")
    route = engine.last_route() if record.route else None
    if route is not None and route != record.route:
        raise SltMismatch(f"{where}: answered by {route}, not {record.route}\n{record.sql}")


def check_all(records: Sequence[Record], engine: Engine) -> list[str]:
    """Run records one after the other; what was wrong with each that failed."""
    failures = []
    for record in records:
        try:
            check(record, engine)
        except SltMismatch as error:
            failures.append(str(error))
    return failures


class WireEngine:
    """PostgreSQL, or whatever speaks its wire: simple protocol, text values."""

    def __init__(self, dsn: str, name: str = "postgresql", *, routes: bool = False) -> None:
        """Connect. `routes`: the other end is htapkit and says where an answer came from."""
        self.name = name
        self._routes = routes
        self._connection = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> WireEngine:
        """The engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def run(self, sql: str) -> Sequence[Row]:
        """The rows of the last statement."""
        result = self._connection.pgconn.exec_(sql.encode())
        if result.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            raise Refused(f"{state}: {result.get_error_message('utf-8')}")
        columns = range(result.nfields)
        return [
            tuple(_decode(result.get_value(row, column)) for column in columns)
            for row in range(result.ntuples)
        ]

    def last_route(self) -> str | None:
        """`SHOW htapkit.last_route`."""
        return self.run("SHOW htapkit.last_route")[0][0] if self._routes else None


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def with_answers(text: str, engine: Engine) -> str:
    """The text of a file with the engine's answers in place of those that it has."""
    script = parse(text, engine.name)
    lines = text.split("\n")
    ends = {start + len(block) - 1 for start, block in _blocks(text)}
    for record in (*script.setup, *script.records):
        answer = engine.run(record.sql) if record.expects != "error" else ()
        if record.kind == "query":
            first = record.line + record.sql.count("\n") + 1
            last = next(end for end in sorted(ends) if end >= first)
            shown = [render(row) for row in answer]
            body = sorted(shown) if record.sort == "rowsort" else shown
            # Later lines keep their numbers: what is put in and taken out stays in one element.
            lines[first] = "\n".join(["----", *body])
            for number in range(first + 1, last):
                lines[number] = "\0"
    return "\n".join(line for line in lines if line != "\0")


@click.command()
@click.option("--dsn", required=True, help="A PostgreSQL whose database may be written to.")
@click.option("--write", is_flag=True, help="Write PostgreSQL's answers into the files.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(dsn: str, *, write: bool, files: tuple[Path, ...]) -> None:
    """Check sqllogictest files against a PostgreSQL, each in a schema of its own."""
    failed = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        with WireEngine(dsn) as engine:
            schema = file.stem
            engine.run(f'drop schema if exists "{schema}" cascade; create schema "{schema}"')
            engine.run(f'set search_path to "{schema}"')
            if write:
                file.write_text(with_answers(text, engine), encoding="utf-8")
                continue
            script = parse(text, engine.name)
            failures = check_all((*script.setup, *script.records), engine)
        failed += len(failures)
        click.echo(f"{file}: {len(failures)} of {len(script.records)} differ")
        click.echo("\n\n".join(failures), err=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
