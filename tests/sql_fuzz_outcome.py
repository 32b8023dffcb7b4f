"""What a server said to a statement, byte for byte, and what two servers said differently."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import pq

from tests.sql_fuzz_cells import FLOATS, agree, sort_value
from tests.sql_fuzz_words import Query

_OF_VALUES = frozenset({"22003", "22008", "22012", "2201F"})  # out of range, by zero, a root
_SPARING = ("(SELECT", "WITH ", "LIMIT", " JOIN ", " OR ")
"""PostgreSQL may fail for a condition beside a true one of OR, for a subquery that nobody reads, or
behind LIMIT, where no row needs the value. Which part of a join's condition comes first is open.
Elsewhere only what it computes when it plans is: EXPLAIN then fails, too."""
_NOT_HOT = "0A000"
_numbers = itertools.count()
Row = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An error's SQLSTATE, or columns and rows."""

    sqlstate: str
    message: str
    columns: tuple[tuple[bytes, int, int], ...]
    rows: tuple[Row, ...]
    early: bool = False  # of an error of values: EXPLAIN has it, too, or could not be asked


@dataclass(frozen=True, slots=True)
class Manner:
    """How a statement is sent: by the simple protocol, or by the extended one, prepared or not."""

    simple: bool = False
    prepared: bool = False
    binary: bool = False


def run(connection: psycopg.Connection, query: Query, manner: Manner) -> list[Outcome]:
    """Execute it; a prepared statement with each of its sets of values."""
    raw, text, values = connection.pgconn, query.sql.encode(), query.values
    form = pq.Format(int(manner.binary))
    if manner.simple:
        return [_asked_early(connection, query, 0, _outcome(raw.exec_(text)))]
    if not manner.prepared:
        sent = raw.exec_params(text, values.runs[0], values.oids, values.formats, form)
        return [_asked_early(connection, query, 0, _outcome(sent))]
    name = f"fuzzed_{next(_numbers)}".encode()
    made = raw.prepare(name, text, values.oids)
    if made.status != pq.ExecStatus.COMMAND_OK:
        return [_outcome(made)]
    found = []
    for at, each in enumerate(values.runs):
        sent = raw.exec_prepared(name, each, values.formats, form)  # type: ignore[arg-type]  # NULLs
        found.append(_asked_early(connection, query, at, _outcome(sent)))
    raw.exec_(b"DEALLOCATE " + name)
    return found


def _asked_early(
    connection: psycopg.Connection, query: Query, run_: int, found: Outcome
) -> Outcome:
    """Of an error of values, whether planning alone gives one with the same values."""
    if found.sqlstate not in _OF_VALUES:
        return found
    raw, values = connection.pgconn, query.values
    if raw.transaction_status != pq.TransactionStatus.IDLE:
        return replace(found, early=True)
    text = b"EXPLAIN " + query.sql.encode()
    explained = raw.exec_params(text, values.runs[run_], values.oids, values.formats)
    return replace(found, early=explained.status != pq.ExecStatus.TUPLES_OK)


def _outcome(result: pq.abc.PGresult) -> Outcome:
    if result.status == pq.ExecStatus.TUPLES_OK:
        width = range(result.nfields)
        columns = tuple((result.fname(i) or b"", result.ftype(i), result.fmod(i)) for i in width)
        rows = tuple(tuple(result.get_value(r, c) for c in width) for r in range(result.ntuples))
        return Outcome("", "", columns, rows)
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"?"
    return Outcome(state.decode(), result.error_message.decode(errors="replace").strip(), (), ())


def refused(outcomes: Sequence[Outcome]) -> bool:
    """Whether `htapkit.route = 'hot'` could not answer."""
    return any(outcome.sqlstate == _NOT_HOT for outcome in outcomes)


def differences(
    query: Query, theirs: Sequence[Outcome], ours: Sequence[Outcome], *, binary: bool = False
) -> str:
    """What `ours` have not as `theirs`, each after each; "" = nothing."""
    if len(theirs) != len(ours):
        return f"{len(theirs)} answers, ours {len(ours)}: {ours[0].message}"
    pairs = zip(theirs, ours, strict=True)
    return "; ".join(filter(None, (difference(query, x, y, binary=binary) for x, y in pairs)))


def difference(query: Query, theirs: Outcome, ours: Outcome, *, binary: bool = False) -> str:
    """What `ours` has not as `theirs`; "" = nothing."""
    if theirs.sqlstate != ours.sqlstate:
        spared = theirs.early or any(word in query.sql for word in _SPARING)
        if theirs.sqlstate in _OF_VALUES and not ours.sqlstate and spared:
            return ""
        return f"SQLSTATE {theirs.sqlstate or 'none'}, ours {ours.sqlstate or 'none'}: " + (
            theirs.message or ours.message
        )
    if not _same_columns(theirs, ours):
        return f"columns {theirs.columns}, ours {ours.columns}"
    if theirs.rows == ours.rows:
        return ""
    return _Rows(query, theirs, ours, binary=binary).difference()


def _same_columns(theirs: Outcome, ours: Outcome) -> bool:
    """Equal, but for modifiers that only PostgreSQL's optimizer adds, after Describe."""
    return [(n, o) for n, o, _ in theirs.columns] == [(n, o) for n, o, _ in ours.columns] and all(
        mine[2] in {-1, his[2]} for mine, his in zip(ours.columns, theirs.columns, strict=True)
    )


class _Rows:
    """Rows of the same columns, which are not equal as they came."""

    def __init__(self, query: Query, theirs: Outcome, ours: Outcome, *, binary: bool) -> None:
        """Note which columns hold sums of floats: the only ones that may differ, by last digits."""
        self._order, self._binary = query.order, binary
        self._limited = bool(query.order) and "LIMIT" in query.sql.rpartition("ORDER BY")[2]
        self._theirs, self._ours = theirs.rows, ours.rows
        self._oids = [oid for _, oid, _ in theirs.columns]
        self._loose = [
            column.loose and oid in FLOATS
            for column, oid in zip(query.columns, self._oids, strict=True)
        ]
        self._loose_oids = [o for o, loose in zip(self._oids, self._loose, strict=True) if loose]

    def difference(self) -> str:
        """In words; "" = only what PostgreSQL leaves open."""
        if not self._same_multiset() and not self._same_limited():
            missing = list((Counter(self._theirs) - Counter(self._ours)).elements())[:3]
            more = list((Counter(self._ours) - Counter(self._theirs)).elements())[:3]
            count = f"{len(self._theirs)} rows, ours {len(self._ours)}"
            return f"{count}\n  only theirs {missing}\n  only ours   {more}"
        for at, (left, right) in enumerate(zip(self._theirs, self._ours, strict=True)):
            if self._order and not self._same_place(left, right):
                theirs, ours = self._theirs[at : at + 3], self._ours[at : at + 3]
                return f"order at {at}\n  theirs {theirs}\n  ours   {ours}"
        return ""

    def _same_multiset(self) -> bool:
        left, right = self._sums(self._theirs), self._sums(self._ours)
        return left.keys() == right.keys() and all(
            len(sums) == len(right[rest])
            and all(self._agree(x, y) for x, y in zip(sums, right[rest], strict=True))
            for rest, sums in left.items()
        )

    def _same_limited(self) -> bool:
        """Which of 0 and -0, or of 'a' and 'a ', is the last before LIMIT ends is open."""
        return (
            self._limited
            and len(self._theirs) == len(self._ours)
            and all(map(self._same_place, self._theirs, self._ours))
        )

    def _sums(self, rows: Sequence[Row]) -> dict[Row, list[Row]]:
        """The float sums of the rows that are otherwise equal, in order."""
        found: dict[Row, list[Row]] = defaultdict(list)
        for row in rows:
            rest = tuple(
                None if loose else value for value, loose in zip(row, self._loose, strict=True)
            )
            found[rest].append(
                tuple(value for value, loose in zip(row, self._loose, strict=True) if loose)
            )
        for sums in found.values():
            sums.sort(key=self._in_order)
        return found

    def _in_order(self, sums: Row) -> list[object]:
        pairs = zip(sums, self._loose_oids, strict=True)
        return [sort_value(value, oid, binary=self._binary) for value, oid in pairs]

    def _agree(self, left: Row, right: Row) -> bool:
        return all(
            agree(x, y, oid, binary=self._binary)
            for x, y, oid in zip(left, right, self._loose_oids, strict=True)
        )

    def _same_place(self, left: Row, right: Row) -> bool:
        """Equal to ORDER BY, as 0 and -0 are; behind a float sum, its last digits have decided."""
        for at in self._order:
            oid, x, y = self._oids[at], left[at], right[at]
            if self._loose[at]:
                return agree(x, y, oid, binary=self._binary)
            if sort_value(x, oid, binary=self._binary) != sort_value(y, oid, binary=self._binary):
                return False
        return True
