"""Rows read back by their keys, and compared with what was loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.concurrent import execute_concurrent

from htapkit_cassandra import cql, spool
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.cql import Cql
from htapkit_cassandra.destination import Destination
from htapkit_cassandra.fitting import Target
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.spool import Row
from htapkit_cassandra.undecoded import AsBytes
from htapkit_cassandra.writes import bound

CONCURRENT: Final = 64
READ_SECONDS_MAX: Final = 30
_EXAMPLES_MAX: Final = 10


@dataclass(slots=True)
class Compared:
    """What was found of the rows that were loaded."""

    compared: int = 0
    equal: int = 0
    missing: int = 0
    columns: Counter[str] = field(default_factory=Counter)  # in how many rows each differs
    examples: list[str] = field(default_factory=list)  # rows by number, of those that were taken

    @property
    def different(self) -> int:
        """Rows that are there with other values."""
        return self.compared - self.equal - self.missing

    def take(self, number: int, targets: Sequence[Target], wanted: Row, found: Row | None) -> None:
        """One row."""
        self.compared += 1
        if found is None:
            self.missing += 1
            self._example(f"row {number} is not there")
            return
        names = [
            target.name
            for target, a, b in zip(targets, wanted, found, strict=True)
            if a != b and normal(target.type, a) != normal(target.type, b)
        ]
        self.equal += not names
        self.columns.update(names)
        if names:
            self._example(f"row {number} has another {', '.join(names)}")

    def _example(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES_MAX:
            self.examples.append(text)


def normal(type_: Cql, value: bytes | None) -> Any:  # noqa: ANN401 - values of all types
    """Equal for equal values: the elements of sets and maps have no order of their own. Pure."""
    if value is None:
        return None
    if type_.name in {"set", "list"}:
        parts = [normal(type_.arguments[0], each) for each in cql.elements(value)]
        return frozenset(parts) if type_.name == "set" else tuple(parts)
    if type_.name == "map":
        pairs = list(cql.elements(value))
        keys, values = type_.arguments
        return frozenset(
            (normal(keys, k), normal(values, v))
            for k, v in zip(pairs[::2], pairs[1::2], strict=True)
        )
    if type_.name == "tuple" or type_.user_defined:
        found = list(cql.elements(value, 0))
        found += [None] * (len(type_.arguments) - len(found))
        return tuple(normal(t, v) for t, v in zip(type_.arguments, found, strict=False))
    return value


def compare(
    settings: Settings,
    destination: Destination,
    targets: Sequence[Target],
    rows: tuple[Path, int],
    wanted: tuple[str, int | None],
    told: Callable[[int, int], None],
) -> Compared:
    """Read back what `rows` (a spool and how many it has) holds. Raises SourceError.

    `wanted`: at which consistency, and how many at most, from all over it (None: all).
    """
    (path, count), (consistency, rows_max) = rows, wanted
    found = Compared()
    level = getattr(ConsistencyLevel, consistency)
    keys = [n for name in _key(destination) for n, t in enumerate(targets) if t.name == name]
    with session(settings) as opened, translated(settings):
        opened.client_protocol_handler = AsBytes
        prepared = opened.prepare(destination.select([t.name for t in targets]))
        profile = opened.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, request_timeout=READ_SECONDS_MAX
        )
        for first, chunk in _chosen(path, len(targets), count, rows_max):
            calls = [(bound(prepared, [row[n] for n in keys], level), ()) for row in chunk]
            answers = execute_concurrent(
                opened, calls, concurrency=CONCURRENT, execution_profile=profile
            )
            for number, (row, (_, answer)) in enumerate(zip(chunk, answers, strict=True), first):
                there = next((tuple(each) for each in answer), None)
                found.take(number, targets, row, there)
            told(found.compared, count if rows_max is None else min(count, rows_max))
    return found


def _key(destination: Destination) -> list[str]:
    return [target.name for target in destination.targets if target.identifies]


def _chosen(
    path: Path, columns: int, count: int, rows_max: int | None
) -> Iterator[tuple[int, list[Row]]]:
    """Chunks with the number of their first row, from 1."""
    limit = count if rows_max is None else min(rows_max, count)
    done = seen = 0
    for chunk in spool.chunks(path, columns, count):
        wanted = -(-(seen + len(chunk)) * limit // count) - done
        if wanted:
            yield seen + 1, chunk[:wanted]
        done, seen = done + wanted, seen + len(chunk)
