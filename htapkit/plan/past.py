"""AS OF: which recorded cut a statement reads, and what keeps it from reading the past.

The past is the lake below a cut's boundary: rows above it, and later changes of those below it,
were only ever in the hot store. So a statement must bound the time of every table, and all its
tables must have been cut at one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlglot import exp

from htapkit.plan.arms import Reference
from htapkit.plan.literals import moment_text, read_moment
from htapkit.plan.plan import Cut, SessionView
from htapkit.plan.types import is_utc
from htapkit.plan.unproven import LocalOnlyError, UnprovenError

_WORD = "system_time"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def asks_past(sql: str, session: SessionView) -> bool:
    """Whether the planner may need the source's cuts for this statement."""
    return bool(session.as_of) or _WORD in sql.lower()


def is_time(text: str) -> bool:
    """Whether AS OF can read it in some session; without an offset, that must be one in UTC."""
    try:
        read_moment(text.strip(), "timestamptz", utc=True)
    except UnprovenError:
        return False
    return True


def names_past(tree: exp.Expression) -> bool:
    """Whether a table is followed by FOR SYSTEM_TIME …, which PostgreSQL does not have."""
    return any(table.args.get("version") is not None for table in tree.find_all(exp.Table))


def time_of(node: exp.Table, session: SessionView) -> str:
    """The time of which a table is read; "" = the present."""
    version = node.args.get("version")
    if version is None:
        return session.as_of
    value = version.args.get("expression")
    if isinstance(value, exp.Cast) and value.to.this in {
        exp.DataType.Type.TIMESTAMPTZ,
        exp.DataType.Type.TIMESTAMP,
    }:
        value = value.this
    plain = isinstance(value, exp.Literal) and value.args.get("is_string")
    if str(version.args.get("kind")) != "AS OF" or str(version.this) != "TIMESTAMP" or not plain:
        raise LocalOnlyError("only FOR SYSTEM_TIME AS OF '<time>' can be read")
    return str(value.this)


def cut_of(text: str, cuts: Sequence[Cut], session: SessionView) -> Cut:
    """The newest cut that is not after this time."""
    try:
        micros = read_moment(text.strip(), "timestamptz", utc=is_utc(session.time_zone))
    except UnprovenError as error:
        raise LocalOnlyError(f"AS OF {error}; write it as '2026-01-31 12:00:00+00'") from error
    at = _EPOCH + timedelta(microseconds=micros)
    known = [cut for cut in cuts if cut.at <= at]
    if not known:
        first = min((cut.at for cut in cuts), default=None)
        since = f"the first one is of {first.isoformat(sep=' ')}" if first else "there is none yet"
        raise LocalOnlyError(f"AS OF {text}: no cut of the lake is that old; {since}")
    return max(known, key=lambda cut: cut.at)


def obstacle(read: Sequence[Reference], session: SessionView) -> str:
    """Why these tables cannot be read as they were; "" = they can, or the present is asked for."""
    past = [each for each in read if each.past]
    if not past:
        return ""
    if len(past) < len(read):
        return "all tables of a statement are read AS OF the same time, or none"
    if session.route not in {"auto", "lake"}:
        return f"htapkit.route is {session.route}, and AS OF reads the lake alone"
    cuts = {each.boundary.position: each.table for each in past if each.boundary is not None}
    if len(cuts) > 1:
        names = " and ".join(str(table) for table in cuts.values())
        return f"AS OF reads one position, and {names} were cut at several; ask for another time"
    for each in past:
        assert each.boundary is not None
        below = each.boundary.below
        if each.span.upper is None or each.span.upper > below:
            return (
                f"AS OF has the rows of {each.table} below {moment_text(below)}, and the statement "
                f"asks for times in {each.span}: bound the time column below that"
            )
    return ""
