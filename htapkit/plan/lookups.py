"""Statements that a source without SQL may answer itself: one table, by key, index or distance.

The source gives rows that may be more than were asked for; the local SQL runs over them as it would
over the copy's, so its answer is the same. So a condition that is not understood here is only one
that the source cannot use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from sqlglot import exp

from htapkit.lookups import Condition, Later, Lookup, Nearest
from htapkit.model import Access, Column, Route, TableSchema, TableState
from htapkit.plan import distances, finish, literals
from htapkit.plan.datatypes import type_of
from htapkit.plan.names import folded
from htapkit.plan.plan import (
    READS,
    Considered,
    LocalQuery,
    Plan,
    Refuse,
    Relay,
    SessionView,
)
from htapkit.plan.scopes import Statement
from htapkit.plan.types import INTEGERS, PLAIN_TEXTS
from htapkit.plan.unproven import LocalOnlyError, UnprovenError
from htapkit.plan.vectors import read_vector

_OPERATORS: Mapping[type[exp.Expression], str] = {
    exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.EQ: "=",
}  # fmt: skip
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
_SIMPLE = frozenset({"expressions", "from_", "where", "order", "limit"})
_SHOWN: tuple[type[exp.Expression], ...] = (exp.Column, exp.Star, *distances.FUNCTIONS)


def with_lookup(tree: exp.Expression | None, made: Plan, statement: Statement) -> Plan:
    """The plan, with what its table's source is asked itself where the copy cannot answer now.

    With htapkit.route = 'source' that is all of it, or a refusal.
    """
    session = statement.session
    if not isinstance(tree, exp.Select) or not _may_be(made, session):
        return made
    try:
        there = _there(statement, tree)
    except (UnprovenError, LocalOnlyError) as why:
        return made if session.route != "source" else _cannot(made, session, str(why))
    if there is None or (isinstance(made, LocalQuery) and session.route == "source"):
        return there or made
    if isinstance(made, LocalQuery):
        return replace(made, there=there) if _around(made) == _around(there) else made
    assert isinstance(made, Relay | Refuse)
    here = made.considered[:1] if session.route == "auto" else ()
    return replace(there, considered=(*here, *there.considered))


def _may_be(made: Plan, session: SessionView) -> bool:
    """Whether a source's own answer could be one to the statement."""
    if session.route not in {"auto", "source"} or session.as_of:
        return False
    if isinstance(made, LocalQuery):
        return not made.views and made.as_of is None
    return isinstance(made, Refuse) or (isinstance(made, Relay) and made.effect in READS)


def _cannot(made: Plan, session: SessionView, why: str) -> Plan:
    """A route that is forced and cannot be taken; a session with a PostgreSQL keeps what it had."""
    if not session.alone or not isinstance(made, Relay):
        return made
    refused = Considered(Route.SOURCE, chosen=False, reason=why)
    message = f"htapkit.route is source, and {session.source} itself cannot answer this: {why}"
    return Refuse("0A000", message, (refused,))


def _around(query: LocalQuery) -> tuple[object, ...]:
    """All that others do before and after the query itself."""
    return query.columns, query.parameters, query.access, query.clocks, query.zones, query.finish


def _there(given: Statement, tree: exp.Select) -> LocalQuery | None:
    """The statement for its table's source. Raises UnprovenError, LocalOnlyError.

    None: a table is of a source that answers SQL, or nothing.
    """
    tables = list(tree.find_all(exp.Table))
    names = [t.catalog.lower() if t.catalog else given.session.source for t in tables]
    if not tables or not set(names) <= set(given.session.lookups):
        return None
    if (
        len(tables) != 1
        or tree.args.get("from_") is None
        or tree.args["from_"].this is not tables[0]
    ):
        raise UnprovenError("the statement", "reads more than one table, or one in a subquery")
    alias = tables[0].args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise UnprovenError("a table's alias", "with names for its columns")
    statement = _as_if_followed(given, tables[0])
    local = finish.local_query(statement, tree)
    if local.finish is not None or local.ranking is not None:
        raise UnprovenError(local.why, "and there is no PostgreSQL that could finish it")
    if len(statement.references) != 1:
        raise UnprovenError("the statement", "reads no table")
    (reference,) = statement.references
    schema = reference.status.schema
    lookup = _lookup(statement, tree, schema)
    chosen = Considered(Route.SOURCE, chosen=True, reason=f"asked of {schema.table.source} itself")
    access = Access(schema.table, frozenset(statement.access[schema.table]))
    return LocalQuery(
        Route.SOURCE,
        local.sql,
        local.columns,
        tuple(statement.parameters),
        (access,),
        (schema.table.source,),
        None,
        (chosen,),
        clocks=tuple(statement.clocks),
        zones=tuple(statement.zones),
        probes=tuple(statement.probes),
        lookup=lookup,
    )


def _as_if_followed(given: Statement, table: exp.Table) -> Statement:
    """A statement of which nothing is bound yet, and whose table can be read, as a view."""
    names = [folded(table.args[p]) if table.args.get(p) else None for p in ("catalog", "db")]
    status = given.known(names[0], names[1], folded(table.this))
    if status.schema.table.source not in given.session.lookups:
        raise UnprovenError(str(status.schema.table), "no table of a source")
    readable = replace(
        status, state=TableState.FOLLOWING, boundary=None, horizon=None, position=None
    )
    catalog = replace(given.catalog, tables={**given.catalog.tables, status.schema.table: readable})
    return Statement(
        catalog,
        given.session,
        given.parameter_types,
        clock=given.clock,
        unseen=given.unseen,
        parsed=given.parsed,
        parts=True,
    )


def _lookup(statement: Statement, tree: exp.Select, schema: TableSchema) -> Lookup:
    where = tree.args.get("where")
    conditions: list[Condition] = []
    complete = True
    called = tree.args["from_"].this
    name = folded((called.args.get("alias") or called).this)
    for part in _conjuncts(where.this) if where is not None else ():
        try:
            _only_of(name, part)
            conditions += _conditions(statement, schema, part)
        except UnprovenError:
            complete = False
    named = statement.access[schema.table]
    columns = tuple(each.name for each in schema.columns if each.name in named)
    asked = Lookup(schema.table, columns, tuple(conditions), complete=complete)
    simple = {name for name, value in tree.args.items() if value} <= _SIMPLE
    if not simple or not all(
        isinstance(each.unalias().unnest(), _SHOWN) for each in tree.expressions
    ):
        return asked
    try:
        ordered = _ordered(statement, tree, schema, asked)
        return replace(ordered, limit=_limit(statement, tree.args.get("limit")))
    except UnprovenError:
        return asked


def _bare(node: exp.Expr) -> exp.Expression:
    """Without parentheses."""
    found = node.unnest()
    assert isinstance(found, exp.Expression)
    return found


def _conjuncts(node: exp.Expression) -> Iterator[exp.Expression]:
    node = _bare(node)
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    else:
        yield node


def _only_of(name: str, node: exp.Expression) -> None:
    """Raise UnprovenError where it names what stands beside the table in FROM."""
    for column in node.find_all(exp.Column):
        of = column.args.get("table")
        if of is not None and folded(of) != name:
            raise UnprovenError("a condition", "of another relation")


def _conditions(
    statement: Statement, schema: TableSchema, node: exp.Expression
) -> Sequence[Condition]:
    """What a part of WHERE says of a column. Raises UnprovenError."""
    if isinstance(node, exp.Between) and not node.args.get("symmetric"):
        column = _column(schema, node.this)
        low, high = (_value(statement, column, node.args[name]) for name in ("low", "high"))
        return [Condition(column.name, ">=", (low,)), Condition(column.name, "<=", (high,))]
    if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
        column = _column(schema, node.this)
        values = tuple(_value(statement, column, each) for each in node.expressions)
        return [Condition(column.name, "=", values)]
    if type(node) not in _OPERATORS:
        raise UnprovenError("a condition", "not a comparison of a column with a constant")
    operator, left, right = _OPERATORS[type(node)], node.this, node.expression
    if not isinstance(_bare(left), exp.Column):
        operator, left, right = _MIRRORED[operator], right, left
    column = _column(schema, left)
    return [Condition(column.name, operator, (_value(statement, column, right),))]


def _column(schema: TableSchema, node: exp.Expression) -> Column:
    node = _bare(node)
    found = schema.column(folded(node.this)) if isinstance(node, exp.Column) else None
    if found is None or not found.computable:
        raise UnprovenError("a condition", "not of a column that is compared by its value")
    return found


def _value(statement: Statement, column: Column, node: exp.Expression) -> object:
    """A constant as the column has it, or the place of a parameter. Raises UnprovenError."""
    node, wanted = _bare(node), column.type.name
    cast = type_of(node.to) if isinstance(node, exp.Cast) else (wanted, -1)
    inner = _bare(node.this) if isinstance(node, exp.Cast) else node
    if not _alike(wanted, cast[0]) or cast[1] != -1:
        raise UnprovenError("a constant", f"of {cast[0]} beside {wanted}")
    if isinstance(inner, exp.Parameter):
        found = _parameter(statement, inner)
        type_ = statement.parameters[found.at].type
        if not _alike(wanted, type_.name) or type_.category:
            raise UnprovenError("a parameter", f"of {type_.name} beside {wanted}")
        return found
    if isinstance(inner, exp.Null):
        return None
    if isinstance(inner, exp.Boolean) and wanted == "bool":
        return bool(inner.this)
    sign = ""
    if isinstance(inner, exp.Neg):
        sign, inner = "-", inner.this
    if not isinstance(inner, exp.Literal):
        raise UnprovenError("a value", "not a constant")
    if not inner.is_string or sign:
        if wanted not in INTEGERS or inner.is_string or not inner.name.isdigit():
            raise UnprovenError("a number", f"beside {wanted}")
        return int(f"{sign}{inner.name}")
    return _read(statement, wanted, inner.name)


def _alike(column: str, value: str) -> bool:
    """Whether the value is compared with the column as it is."""
    families = (PLAIN_TEXTS, INTEGERS.keys())
    return column == value or any(column in each and value in each for each in families)


def _read(statement: Statement, type_: str, text: str) -> object:
    """A string constant as its column's type reads it. Raises UnprovenError."""
    if type_ in PLAIN_TEXTS:
        return text
    if type_ in INTEGERS:
        return literals.read_integer(text, type_)
    if type_ == "uuid":
        return literals.read_uuid(text)
    if type_ == "bool":
        return literals.read_bool(text)
    if type_ == "date":
        return date(1970, 1, 1) + timedelta(days=literals.read_date(text))
    if type_ == "timestamptz":
        micros = literals.read_moment(text, type_, utc=statement.utc)
        try:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
        except OverflowError as error:
            raise UnprovenError("a timestamp", "outside of the years 1 to 9999") from error
    raise UnprovenError("a constant", f"of {type_}")


def _parameter(statement: Statement, node: exp.Expression) -> Later:
    number = int(node.name) if node.name.isdigit() else 0
    for at, each in enumerate(statement.parameters):
        if each.number == number:
            return Later(at)
    raise UnprovenError("a parameter", "that is not known here")


def _ordered(statement: Statement, tree: exp.Select, schema: TableSchema, asked: Lookup) -> Lookup:
    """With the order of the rows. Raises UnprovenError where it is by something else."""
    order = tree.args.get("order")
    if order is None:
        return asked
    terms = [(_meant(tree, each.this), bool(each.args.get("desc"))) for each in order.expressions]
    if len(terms) == 1 and type(terms[0][0]) in distances.FUNCTIONS and not terms[0][1]:
        if statement.session.route != "source":
            raise UnprovenError("the nearest", "approximate at the source, so only where asked")
        if order.expressions[0].args.get("nulls_first"):
            raise UnprovenError("the nearest", "after rows without a vector, which no index has")
        return replace(asked, nearest=_nearest(statement, schema, terms[0][0]))
    columns = tuple((_column(schema, term).name, descending) for term, descending in terms)
    return replace(asked, order=columns)


def _meant(tree: exp.Select, node: exp.Expression) -> exp.Expression:
    """The expression behind an item of ORDER BY: output names come before columns."""
    node = _bare(node)
    if isinstance(node, exp.Column) and not node.table:
        for item in tree.expressions:
            if isinstance(item, exp.Alias) and folded(item.args["alias"]) == folded(node.this):
                return _bare(item.this)
    if isinstance(node, exp.Literal) and not node.is_string:
        items = tree.expressions
        if any(isinstance(each.unalias(), exp.Star) or each.is_star for each in items):
            raise UnprovenError("a position", "beside a star")
        return _bare(items[int(node.name) - 1].unalias())
    return node


def _nearest(statement: Statement, schema: TableSchema, node: exp.Expression) -> Nearest:
    left, right = _bare(node.this), _bare(node.expression)
    if not isinstance(left, exp.Column):
        left, right = right, left
    column = schema.column(folded(left.this)) if isinstance(left, exp.Column) else None
    if column is None or not column.type.dimensions:
        raise UnprovenError("a distance", "not of a column")
    while isinstance(right, exp.Cast) and right.to.this is exp.DType.VECTOR:
        right = _bare(right.this)
    operator = distances.FUNCTIONS[type(node)][0]
    if isinstance(right, exp.Parameter):
        return Nearest(column.name, operator, _parameter(statement, right))
    if not isinstance(right, exp.Literal) or not right.is_string:
        raise UnprovenError("a distance", "from what is no constant")
    return Nearest(column.name, operator, read_vector(right.name, column.type.dimensions))


def _limit(statement: Statement, node: exp.Expression | None) -> object:
    if node is None:
        return None
    if not isinstance(node, exp.Limit):
        raise UnprovenError("FETCH", "is not taken apart")
    count = _bare(node.expression)
    if isinstance(count, exp.Parameter):
        return _parameter(statement, count)
    if isinstance(count, exp.Literal) and not count.is_string and count.name.isdigit():
        return int(count.name)
    raise UnprovenError("LIMIT", "of what is no number")
