"""Statements that PostgreSQL never sees: SET and SHOW htapkit.…, EXPLAIN (ROUTE).

In the extended protocol the source is given a statement of the same shape in their place, so that
names, Describe and portals stay its own; only Execute is answered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from htapkit.errors import (
    EngineFailed,
    HtapkitError,
    LimitReached,
    LookupFailed,
    LookupRefused,
    NotRoutable,
    ScanTooLarge,
)
from htapkit.model import Route
from htapkit.plan.plan import (
    Considered,
    Effect,
    ExplainRoute,
    LocalQuery,
    Refuse,
    Relay,
    SetOption,
    ShowOption,
)
from htapkit.plan.types import OIDS
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.portal import AtSource, Rows, Statement
from htapkit.serve.pgwire.rows_codecs import FIRST_USER_OID
from htapkit.serve.pgwire.state import SessionState

Own = SetOption | ShowOption | ExplainRoute
_EXPLAIN = ("route", "chosen", "cost", "lag", "reason", "sql")
_TEXT = 25
_SHAPE_OIDS = {**OIDS, "inet": 869, "_float4": 1021, "_float8": 1022}
_NEVER = " WHERE 1 / (pg_catalog.random() * 0)::int4 = 1"
_COLUMN = re.compile(
    r"""(?:, )?(?:NULL|'')::pg_catalog\."((?:[^"]|"")*)" AS "((?:[^"]|"")*)\"""", re.DOTALL
)
_PARAMETER = re.compile(r'\$(\d+)::pg_catalog\."((?:[^"]|"")*)"')


class UnknownOption(HtapkitError):
    """SHOW of a name that is not ours."""

    sqlstate = "42704"


class Refused(HtapkitError):
    """A plan that refuses, as an error."""

    def __init__(self, refuse: Refuse) -> None:
        """With the planner's words and code."""
        super().__init__(refuse.message)
        self.sqlstate = refuse.sqlstate  # type: ignore[misc]  # this one's differs by instance


def _columns(plan: Own) -> Sequence[str]:
    if isinstance(plan, ShowOption):
        return (f"htapkit.{plan.name}",)
    return _EXPLAIN if isinstance(plan, ExplainRoute) else ()


def sent_on(query: LocalQuery, problem: HtapkitError) -> AtSource:
    """What sends a statement to the source, whose word counts when the copy fails.

    Raises the problem itself where a Spark failed, where nobody may run so large a statement, and
    where it is a source's own word.
    """
    if isinstance(problem, (EngineFailed, LookupFailed, LookupRefused, ScanTooLarge)):
        raise problem
    if query.spark is None:
        return AtSource(f"the hot store: {problem}")
    return AtSource(str(problem))


def elsewhere(plan: object, source: str, *, alone: bool = False) -> bool:
    """Whether a plan reads what the session's own source does not have: other tables, the past."""
    past = isinstance(plan, LocalQuery) and plan.as_of is not None
    return past or unseen(plan, source, alone=alone)


def not_elsewhere(
    plan: object, reason: str | AtSource, source: str, route: str, *, alone: bool
) -> HtapkitError | None:
    """The error of a statement that may not go to the source, or cannot; None where it may.

    `reason` is why it cannot be answered here.
    """
    only_here = elsewhere(plan, source, alone=alone)
    if route in {"auto", "source"} and not only_here:
        return None
    if isinstance(reason, AtSource) and isinstance(reason.__cause__, LimitReached):
        return reason.__cause__  # there is room later
    if only_here:
        return NotRoutable(f"it reads what the source does not have, and here: {reason}")
    return NotRoutable(f"htapkit.route = '{route}' cannot run this statement: {reason}")


def unseen(plan: object, source: str, *, alone: bool = False) -> bool:
    """Whether the source would not even understand the statement of a plan; `alone`: none."""
    if alone and isinstance(plan, LocalQuery):
        return True
    foreign = isinstance(plan, LocalQuery) and any(name != source for name in plan.sources)
    return foreign or (isinstance(plan, LocalQuery) and plan.own_words)


def question(statement: Statement) -> bytes:
    """What the source is asked to describe, to know the columns of its rows.

    COPY gives none by itself; the query that it has does.
    """
    plan = statement.plan
    if not isinstance(plan, LocalQuery) or plan.copied is None:
        return statement.asked
    return (
        shape(replace(plan, copied=None)).encode()
        if statement.shape
        else plan.copied.query.encode()
    )


def described_types(query: LocalQuery, *, made_up: bool) -> tuple[int, ...]:
    """The types that the source must have described; `made_up`: of `shape`, not the statement."""
    oids = (column.type.oid for column in query.columns)
    return tuple(_TEXT if made_up and oid >= FIRST_USER_OID else oid for oid in oids)


def shape(plan: Own | LocalQuery) -> str:
    """A statement for the source of the same columns and parameters, never executed."""
    if isinstance(plan, LocalQuery) and plan.copied is None:
        # If it were executed all the same, it would fail, and never give a row.
        bound = "".join(
            f" AND ${p.number}::pg_catalog.{_quoted(p.type.name)} IS NOT NULL"
            for p in plan.parameters
            if p.number > 0
        )
        return f"SELECT {_made_up(plan)}{_NEVER}{bound}"
    names = () if isinstance(plan, LocalQuery) else _columns(plan)
    if not names:
        return "set htapkit.placeholder to ''"
    return "select " + ", ".join(f"''::pg_catalog.\"text\" AS {_quoted(name)}" for name in names)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a statement that `shape` made is of: (name, type's OID) of columns; parameters."""

    columns: tuple[tuple[str, int], ...]
    parameters: tuple[int, ...] = ()


def read_shape(text: str) -> Shape | None:
    """The inverse of `shape`, as far as it needs no PostgreSQL; None: it is not of it."""
    columns = []
    position = len("SELECT ")
    while (found := _COLUMN.match(text, position)) is not None:
        type_, name = (part.replace('""', '"') for part in found.groups())
        columns.append((name, _SHAPE_OIDS.get(type_, _TEXT)))
        position = found.end()
    rest = text[position:]
    ended = rest == "" or rest.startswith(_NEVER)
    if not columns or not text.lower().startswith("select ") or not ended:
        return None
    bound = dict(_PARAMETER.findall(rest))
    numbers = range(1, max(map(int, bound), default=0) + 1)
    return Shape(tuple(columns), tuple(_SHAPE_OIDS.get(bound.get(str(n), ""), 0) for n in numbers))


def _made_up(query: LocalQuery) -> str:
    if query.finish is not None:
        return f"f.* FROM (SELECT) AS one LEFT JOIN {query.finish.shape} ON true"
    return ", ".join(
        f"NULL::pg_catalog.{_quoted(c.type.name if c.type.oid < FIRST_USER_OID else 'text')}"
        f" AS {_quoted(c.name)}"
        for c in query.columns
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def fields(plan: Own) -> tuple[Field, ...]:
    """The columns for RowDescription; () means that it gives no rows."""
    return messages.made_up_fields(dict.fromkeys(_columns(plan), _TEXT))


@dataclass(frozen=True, slots=True)
class Held:
    """Why a session's next statement cannot be the copy's, whatever its plan says.

    `error` is what a forced route gets for it; None: the source answers.
    """

    reason: str
    error: HtapkitError | None


def run(
    plan: Own,
    state: SessionState,
    lag: Callable[[], float | None],
    *,
    in_block: bool,
    held: Held | None = None,
) -> Rows:
    """Do it. Raises WrongSetting, NotRoutable, UnknownOption."""
    if isinstance(plan, SetOption):
        state.set_option(plan.name, plan.value, in_block=in_block, local=plan.transaction)
        return Rows(tag="RESET" if plan.value is None else "SET")
    if isinstance(plan, ShowOption):
        value = state.show(plan.name)
        if value is None:
            raise UnknownOption(f'unrecognized configuration parameter "htapkit.{plan.name}"')
        return Rows(tag="SHOW", rows=[messages.data_row([value])])
    return Rows(tag="EXPLAIN", rows=_explain(_with(held, plan.plan), lag()))


def _with(held: Held | None, plan: LocalQuery | Relay | Refuse) -> LocalQuery | Relay | Refuse:
    """The plan that really counts: candidates that a session is kept from are not chosen."""
    if held is None:
        return plan
    at_source = held.error is None
    considered = tuple(
        replace(
            each,
            chosen=at_source and each.route is Route.SOURCE,
            reason=held.reason if each.chosen or each.route is Route.SOURCE else each.reason,
        )
        for each in plan.considered
    )
    if held.error is None:
        return Relay(Effect.READ, considered)
    return Refuse(held.error.sqlstate, str(held.error), considered)


def _explain(plan: LocalQuery | Relay | Refuse, lag_seconds: float | None) -> list[bytes]:
    lag = None if lag_seconds is None else f"{lag_seconds * 1000:.0f} ms"
    considered = plan.considered
    if not considered and isinstance(plan, Relay):
        return [messages.data_row(["source", "true", None, None, f"effect: {plan.effect}", None])]
    rows = []
    for each in considered:
        local = each.route.value != "source"
        rows.append(messages.data_row(_explained(each, lag if local else None, _text(plan, each))))
    if isinstance(plan, Refuse):
        rows.append(messages.data_row([None, "false", None, None, plan.message, None]))
    return rows


def _explained(each: Considered, lag: str | None, text: str | None) -> list[str | None]:
    cost = None if each.cost is None else f"{each.cost:.0f}"
    return [each.route.value, str(each.chosen).lower(), cost, lag, each.reason, text]


def _text(plan: LocalQuery | Relay | Refuse, each: Considered) -> str | None:
    if not each.chosen or not isinstance(plan, LocalQuery):
        return None
    if plan.ranking is not None:
        ranks = dict.fromkeys(key.ranks for key in plan.ranking.keys if key.ranks)
        return "\n".join((plan.sql, "-- sorted by ranks of texts, from the source:", *ranks))
    sql = plan.sql if plan.spark is None else plan.spark.sql
    if plan.finish is None:
        return sql
    return f"{sql}\n-- finished at the source by:\n{plan.finish.sql}"
