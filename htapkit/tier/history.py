"""History that somebody else wrote: Parquet files, beside the mirrored table that it belongs to.

A mirrored table holds what its source has, so such rows are a table of their own in the lake,
`history.<schema>.<table>`, with the same columns. What the source has goes before it: a key is
in one of the two. A backfill is one commit; repeated, it changes nothing.
"""

from __future__ import annotations

import csv
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, ConfigError, LakeMissing
from htapkit.hot import HotStore, Incoming
from htapkit.jobs import Progress
from htapkit.model import (
    Import,
    LakeFiles,
    Layout,
    Pin,
    Position,
    RunState,
    TableId,
    TableSchema,
    TieringRun,
    history_of,
)
from htapkit.query import whole_rows
from htapkit.tier.parquet import Wanted, batches_of, check_file
from htapkit.tier.rules import Rule

_log = structlog.get_logger("htapkit.tier")
_EXAMPLES_MAX = 10
Present = Callable[[], Iterable[pa.RecordBatch]]


class HistoryLake(Protocol):
    """What history needs of `htapkit.lake.Lake`; the promises stand there."""

    def commit(
        self,
        run: TieringRun,
        schema: TableSchema,
        layout: Layout,
        base: Pin | None,
        gone: pa.Table | None,
        rows: Iterable[pa.RecordBatch],
    ) -> Pin:
        """The next version."""
        ...

    def look(
        self, identifier: Sequence[str], table: TableId, known: TableSchema | None = None
    ) -> Import:
        """The newest version."""
        ...

    def identifier(self, table: TableId) -> Sequence[str]:
        """A table's name in the catalog."""
        ...

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """What to read of a version."""
        ...

    def expire(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> int:
        """Remove old versions."""
        ...


@dataclass(frozen=True, slots=True)
class Brought:
    """What a backfill from files did."""

    table: str  # as statements name it
    files: int
    added: int
    replaced: int  # rows of earlier backfills that a file has otherwise
    unchanged: int
    at_source: int  # left out: the source has the key
    given_up: int  # rows of earlier backfills whose key the source has now
    outside: int  # of the range
    rejected: int
    reasons: tuple[str, ...]  # of the first ones
    rejects: str  # the file that names all of them; "" = there are none


@dataclass(frozen=True, slots=True)
class History:
    """What backfills from files bring. Not at the same time as a run."""

    store: HotStore
    lake: HistoryLake
    folder: Path  # of the files that say what was rejected
    keep_seconds: float

    def bring(
        self,
        files: Sequence[Path],
        rule: Rule,
        span: tuple[int | None, int | None],
        present: Present,
        table: TableId,
        progress: Progress,
    ) -> Brought:
        """Take these files' rows in a span of times (microseconds); `present` has the source's.

        Raises ConfigError (a file has other columns, the key cannot be compared), CatalogChanged,
        LakeFailed, what `present` raises; nothing has changed then.
        """
        schema = self.store.catalog.readable(table)
        if schema is None:
            raise CatalogChanged(f"{table} is not followed now; see htapkit status")
        _check_key(schema)
        total = sum(check_file(path, schema) for path in files)
        wanted = Wanted(schema, rule.column.name, *span)
        with Incoming(schema) as incoming, Rejects(self.folder / f"{table}.csv") as rejects:
            outside = self._take(files, wanted, incoming, rejects, total, progress)
            progress(f"comparing with {table}", total, total)
            there = self._there(table, schema)
            settled = incoming.settle(present(), lambda: self._former(there))
            at_source, unchanged, replaced, given_up = settled
            added = incoming.count() - replaced
            failpoints.reach("history.settled")
            if added or replaced or given_up:
                progress(f"writing history of {table}", 0, added + replaced)
                self._commit(schema, rule, there, incoming)
            elif there is not None:
                self.store.imports.put(there)
        _log.info("history brought", table=str(table), added=added, rejected=rejects.count)
        return Brought(
            f"history.{table.schema}.{table.name}",
            len(files),
            added,
            replaced,
            unchanged,
            at_source,
            given_up,
            outside,
            rejects.count,
            tuple(rejects.first),
            str(rejects.path) if rejects.count else "",
        )

    def _take(
        self,
        files: Sequence[Path],
        wanted: Wanted,
        incoming: Incoming,
        rejects: Rejects,
        total: int,
        progress: Progress,
    ) -> int:
        """All rows that fit; how many are outside the range."""
        done = outside = 0
        for number, path in enumerate(files):
            for taken in batches_of(path, wanted):
                incoming.take(number, taken.lines, taken.rows)
                outside += taken.outside
                for line, why in taken.rejected:
                    rejects.add(path, line, why)
                done += taken.rows.num_rows + len(taken.rejected) + taken.outside
                progress(f"reading {path.name}", done, total)
        for number, line in incoming.again():
            rejects.add(files[number], line, "its key stands in an earlier row")
        return outside

    def _there(self, table: TableId, schema: TableSchema) -> Import | None:
        """What earlier backfills brought, less what others took out since; None: nothing yet.

        With the columns that the table has now.
        """
        name = history_of(table)
        try:
            found = self.lake.look(self.lake.identifier(name), name, schema)
        except LakeMissing:
            return None
        return replace(found, schema=TableSchema(name, schema.columns))

    def _former(self, there: Import | None) -> Iterator[pa.RecordBatch]:
        if there is None:
            return
        self.store.imports.put(there)
        with self.store.moment() as moment:
            yield from moment.batches(whole_rows(self.lake.files, moment.catalog, there.table))

    def _commit(
        self, schema: TableSchema, rule: Rule, there: Import | None, incoming: Incoming
    ) -> None:
        name, table = history_of(schema.table), schema.table
        position = self.store.stored_position(table.source) or Position("")
        run = TieringRun(uuid.uuid4().hex, name.source, position, {name: 0}, RunState.EXPORTING)
        own = replace(schema, table=name)
        base = there.pin if there is not None else None
        gone = incoming.gone()
        pin = self.lake.commit(
            run, own, rule.layout, base, gone if gone.num_rows else None, self._rows(incoming, rule)
        )
        failpoints.reach("history.committed")
        self.store.imports.put(self.lake.look(self.lake.identifier(name), name, schema))
        before = datetime.now(UTC) - timedelta(seconds=self.keep_seconds)
        self.lake.expire(name, (pin,), before)

    @staticmethod
    def _rows(incoming: Incoming, rule: Rule) -> Iterator[pa.RecordBatch]:
        return incoming.rows(rule.layout.sort)


def _check_key(schema: TableSchema) -> None:
    """Refuse a key that may be equal though its text differs: it would be in both tables."""
    for name in schema.key:
        column = schema.column(name)
        assert column is not None
        exact = column.computable or column.type.category == "e"
        if not exact or not column.deterministic:
            raise ConfigError(
                f"{schema.table} takes no history: values of its key column {name} "
                f"({column.type.name}) may be equal and look different"
            )


class Rejects:
    """The file that says which rows were rejected, and why. A context manager."""

    def __init__(self, path: Path) -> None:
        """It takes the place of the one before."""
        self.path = path
        self.count = 0
        self.first: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["file", "row", "reason"])

    def add(self, file: Path, line: int, why: str) -> None:
        """One row; no value of it is told."""
        self.count += 1
        self._writer.writerow([str(file), line, why])
        if len(self.first) < _EXAMPLES_MAX:
            self.first.append(f"{file.name}, row {line}: {why}")

    def __enter__(self) -> Rejects:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Done."""
        self._file.close()


def told(brought: Brought) -> Mapping[str, Any]:
    """As the job's result."""
    return {name: getattr(brought, name) for name in Brought.__slots__}
