"""All rows of a load, read and checked before the first is written: what is taken, and what not."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from htapkit_cassandra import canonical
from htapkit_cassandra.destination import Destination
from htapkit_cassandra.fitting import Encoded, Fit, LoadRefused, Target
from htapkit_cassandra.inputs import Input, Part
from htapkit_cassandra.spool import CHUNK_BYTES, CHUNK_ROWS, Keys, Row, Shared, SpoolWriter

_EXAMPLES_MAX: Final = 10


class RowsRejected(LoadRefused):
    """More rows cannot be taken than may be left out: nothing was written."""

    sqlstate = "22000"


class SameKeys(LoadRefused):
    """Rows have the key of an earlier one, and only one of them could stay."""

    sqlstate = "21000"


@dataclass(frozen=True, slots=True)
class ReadIn:
    """What was read."""

    targets: tuple[Target, ...]  # the columns that were given
    rows: int  # that are in the spool
    rejected: int
    reasons: tuple[str, ...]  # of the first of them


def read_in(
    to: Destination, given: Input, spool: Path, rejects: Path, told: Callable[[int], None]
) -> ReadIn:
    """Write all rows that fit to `spool`, and why others do not to `rejects`.

    Raises LoadRefused (and SameKeys), LimitReached, what `given` raises.
    """
    fit: Fit | None = None
    with ExitStack() as kept:
        rejected = kept.enter_context(Rejects(rejects))
        keys = kept.enter_context(Keys(spool.parent / "keys"))
        writer = kept.enter_context(SpoolWriter(spool))
        shared: Shared | None = None
        for part in given.parts():
            former = fit
            fit = Fit(to.table, to.targets, part.schema, followed=to.followed)
            if former is not None and former.targets != fit.targets:
                raise LoadRefused(f"{part.name} has other columns than the files before it")
            shared = shared or _shared(fit.targets)
            for first, encoded in _encoded(fit, part):
                taken = _agreeing(fit.targets, encoded, shared) if shared else encoded
                for line, why in taken.rejected:
                    rejected.add(part.name, first + line + 1, why)
                keys.add(_rows(fit.targets, taken, "partition_key", "clustering"))
                writer.write(taken.columns)
                told(writer.rows + rejected.count)
        repeated = keys.repeated()
    if fit is None:
        raise LoadRefused(f"{to.table}: nothing is given")
    if repeated:
        raise SameKeys(
            f"{to.table}: {repeated:,} rows have the key of an earlier one, and only one of "
            "them could stay; nothing was written"
        )
    return ReadIn(fit.targets, writer.rows, rejected.count, tuple(rejected.first))


def _encoded(fit: Fit, part: Part) -> Iterator[tuple[int, Encoded]]:
    """Pieces of a part that are small, each with how many rows are before it."""
    first = 0
    for batch in part.batches:
        for piece in pieces(batch):
            yield first, fit.encoded(piece)
            first += piece.num_rows


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Its rows in order, at most CHUNK_ROWS at a time and about CHUNK_BYTES, but at least one."""
    rows = batch.num_rows
    if rows <= CHUNK_ROWS and (rows <= 1 or sum(map(_size, batch.columns)) <= CHUNK_BYTES):
        yield batch
        return
    yield from pieces(batch.slice(0, rows // 2))
    yield from pieces(batch.slice(rows // 2))


def _size(values: pa.Array) -> int:
    """In bytes; of a dictionary as if all of its values were used alike."""
    if not pa.types.is_dictionary(values.type):
        return int(values.nbytes)
    return int(values.dictionary.nbytes) * len(values) // max(1, len(values.dictionary))


def _rows(targets: Sequence[Target], encoded: Encoded, *kinds: str) -> list[Row]:
    """Their columns of these kinds, the same for what the node takes for the same."""
    found = [
        canonical.column(target.type, values, compared=target.kind == "clustering")
        for target, values in zip(targets, encoded.columns, strict=True)
        if target.kind in kinds
    ]
    return list(zip(*found, strict=True))


def _shared(targets: Sequence[Target]) -> Shared | None:
    names = [target.name for target in targets if target.kind == "static"]
    return Shared(names) if names else None


def _agreeing(targets: Sequence[Target], encoded: Encoded, shared: Shared) -> Encoded:
    """Without rows whose static columns are others than those of an earlier row."""
    partitions = _rows(targets, encoded, "partition_key")
    values = _rows(targets, encoded, "static")
    whys = [shared.differs(key, value) for key, value in zip(partitions, values, strict=True)]
    if not any(whys):
        return encoded
    kept = [n for n, why in enumerate(whys) if not why]
    rejected = [(encoded.lines[n], why) for n, why in enumerate(whys) if why]
    return Encoded(
        tuple(encoded.lines[n] for n in kept),
        tuple([column[n] for n in kept] for column in encoded.columns),
        tuple(sorted([*encoded.rejected, *rejected])),
    )


class Rejects:
    """The file that says which rows were rejected, and why. A context manager."""

    def __init__(self, path: Path) -> None:
        """It takes the place of the one before."""
        self.count = 0
        self.first: list[str] = []
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["file", "row", "reason"])

    def add(self, file: str, row: int, why: str) -> None:
        """One row, from 1; no value of it is told."""
        self.count += 1
        self._writer.writerow([file, row, why])
        if len(self.first) < _EXAMPLES_MAX:
            self.first.append(f"{file}, row {row}: {why}" if file else f"row {row}: {why}")

    def __enter__(self) -> Rejects:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Done."""
        self._file.close()
