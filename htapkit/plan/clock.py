"""now() and its like: constants that the source computes, in the transaction that they are about.

The greatest expression around a call of the clock that needs no row (`now() - interval '7 days'`,
`date_trunc('month', current_date)`) becomes a parameter of the local SQL, and the caller asks the
source for its value. So zones, months and midnights are PostgreSQL's own. Nothing is asked that
could fail: the transaction would fail with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from htapkit.plan import literals
from htapkit.plan.context import Context
from htapkit.plan.datatypes import type_of
from htapkit.plan.expr import Expr
from htapkit.plan.parse import source_text
from htapkit.plan.plan import Parameter
from htapkit.plan.types import MOMENTS, is_utc
from htapkit.plan.unproven import UnprovenError

_CALLS: Mapping[str, str] = {
    "now": "timestamptz",
    "transaction_timestamp": "timestamptz",
    "statement_timestamp": "timestamptz",
}
_PRECISE: Mapping[str, str] = {"current_timestamp": "timestamptz", "localtimestamp": "timestamp"}
_NODES: Mapping[type[exp.Expression], str] = {
    exp.CurrentTimestamp: "timestamptz",
    exp.CurrentDate: "date",
    exp.Localtimestamp: "timestamp",
}
_TRUNCATIONS = frozenset({"year", "quarter", "month", "week", "day", "hour", "minute", "second"})
_YEARS_MAX = 1000
_LONGEST = (_YEARS_MAX * 12, _YEARS_MAX * 365, _YEARS_MAX * 365 * literals.DAY_MICROS)
_DAYS_MAX = 100_000
_PRECISION_MAX = 6


def call_type(node: exp.Expression) -> str | None:
    """The type of a call of the clock; None of everything else."""
    if type(node) in _NODES:
        return None if any(node.args.values()) else _NODES[type(node)]
    if not isinstance(node, exp.Anonymous):
        return None
    name, arguments = str(node.this).lower(), node.expressions
    if name in _CALLS and not arguments:
        return _CALLS[name]
    if name in _PRECISE and len(arguments) == 1:
        digits = _number(arguments[0])
        return _PRECISE[name] if digits is not None and digits <= _PRECISION_MAX else None
    return None


def can_be_asked(tree: exp.Expression) -> bool:
    """Whether there is a call of the clock, and one time for all of them.

    The question that stands for the statement has a beginning of its own, which is not the one of
    its transaction; so the two are not compared.
    """
    nodes = (node for node in tree.walk() if isinstance(node, exp.Expression))
    calls = [node for node in nodes if call_type(node) is not None]
    of_statement = [node for node in calls if str(node.this).lower() == "statement_timestamp"]
    return bool(calls) and len(of_statement) in {0, len(calls)}


def constant_type(context: Context, node: object) -> str | None:
    """The type of a constant of the clock, which is a moment; None of everything else."""
    statement = context.statement
    if not statement.clock:
        return None
    found = _typed(node, statement.session.time_zone)
    return found[0] if found is not None and found[0] in MOMENTS and found[1] else None


def value(context: Context, node: exp.Expression, beside: str = "") -> Expr | None:
    """The parameter that stands for this expression; None where it is no constant of the clock.

    `beside`: the type of what it is compared with. Its midnight in the session's zone is asked
    for, too.
    """
    type_, statement = constant_type(context, node), context.statement
    if type_ is None:
        return None
    text = source_text(node)
    if beside == "timestamptz" and type_ != beside and not statement.utc:
        return statement.asked(f"CAST({text} AS {beside})", beside)
    return statement.asked(text, type_)


def parameter(context: Context, node: exp.Expression, beside: str) -> Parameter | None:
    """The same, as the parameter itself."""
    asked = value(context, node, beside)
    if asked is None:
        return None
    statement = context.statement
    return next(p for p in statement.parameters if statement.placeholder(p) == asked)


def _number(node: object) -> int | None:
    if not isinstance(node, exp.Literal) or node.args.get("is_string"):
        return None
    text = str(node.this)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _typed(node: object, zone: str) -> tuple[str, bool] | None:  # noqa: PLR0911 - one for each form
    """(type, whether the clock is in it) of a constant that cannot fail."""
    if not isinstance(node, exp.Expression):
        return None
    if isinstance(node, exp.Paren):
        return _typed(node.this, zone)
    called = call_type(node)
    if called is not None:
        return called, True
    if _interval(node) is not None:
        return "interval", False
    if _number(node) is not None:
        return "int4", False
    if isinstance(node, (exp.Add, exp.Sub)):
        return _moved(node, zone)
    if isinstance(node, exp.Cast):
        return _cast(node, zone)
    if isinstance(node, exp.AtTimeZone):
        return _at_zone(node, zone)
    if isinstance(node, exp.Anonymous) and str(node.this).lower() == "date_trunc":
        return _truncated(node, zone)
    return None


def _moved(node: exp.Expression, zone: str) -> tuple[str, bool] | None:
    """A moment and an interval, a date and days."""
    left, right = _typed(node.this, zone), _typed(node.args["expression"], zone)
    if left is None or right is None:
        return None
    if isinstance(node, exp.Add) and right[0] in MOMENTS:
        left, right = right, left
    if left[0] not in MOMENTS:
        return None
    if right[0] == "interval":
        return ("timestamp" if left[0] == "date" else left[0]), left[1]
    days = _number(node.args["expression"])
    small = days is None or days <= _DAYS_MAX
    return left if (left[0], right[0]) == ("date", "int4") and small else None


def _cast(node: exp.Expression, zone: str) -> tuple[str, bool] | None:
    inner = _typed(node.this, zone)
    if inner is None or inner[0] not in MOMENTS:
        return None
    type_, typmod = type_of(node.args["to"])
    return (type_, inner[1]) if type_ in MOMENTS and typmod < 0 else None


def _at_zone(node: exp.Expression, zone: str) -> tuple[str, bool] | None:
    """AT TIME ZONE of the session's own zone or UTC: these are known to exist."""
    inner, named = _typed(node.this, zone), node.args.get("zone")
    if inner is None or not isinstance(named, exp.Literal) or not named.args.get("is_string"):
        return None
    name = str(named.this)
    if name != zone and not is_utc(name):
        return None
    turned = {"timestamptz": "timestamp", "timestamp": "timestamptz", "date": "timestamp"}
    return (turned[inner[0]], inner[1]) if inner[0] in turned else None


def _truncated(node: exp.Expression, zone: str) -> tuple[str, bool] | None:
    arguments = node.expressions
    if len(arguments) != 2 or not isinstance(arguments[0], exp.Literal):
        return None
    inner = _typed(arguments[1], zone)
    if inner is None or inner[0] not in MOMENTS:
        return None
    if str(arguments[0].this).lower() not in _TRUNCATIONS:
        return None
    return ("timestamp" if inner[0] == "timestamp" else "timestamptz"), inner[1]


def _interval(node: exp.Expression) -> literals.Interval | None:
    """An interval's literal, or a multiple of one, by which no date runs out of range."""
    if isinstance(node, exp.Paren):
        return _interval(node.this)
    if isinstance(node, exp.Mul):
        sides = (node.this, node.args["expression"])
        return _multiple(*sides) or _multiple(*sides[::-1])
    if not isinstance(node.this, exp.Literal) or not node.this.args.get("is_string"):
        return None
    unit = node.args.get("unit")
    spelled = isinstance(node, exp.Interval) and (unit is None or isinstance(unit, exp.Var))
    if not spelled and not (isinstance(node, exp.Cast) and _is_interval(node.args["to"])):
        return None
    try:
        word = str(unit.this).lower() if unit is not None else None
        return _short(literals.read_interval(str(node.this.this), word))
    except UnprovenError:
        return None


def _multiple(number: exp.Expression, node: exp.Expression) -> literals.Interval | None:
    times, base = _number(number), _interval(node)
    return None if times is None or base is None else _short(tuple(times * x for x in base))


def _is_interval(node: exp.Expression) -> bool:
    try:
        return type_of(node) == ("interval", -1)
    except UnprovenError:
        return False


def _short(value: tuple[int, ...]) -> literals.Interval | None:
    months, days, micros = value
    fits = all(abs(part) <= most for part, most in zip(value, _LONGEST, strict=True))
    return (months, days, micros) if fits else None
