"""The planner's one entry: a statement to its Plan. Pure; it never raises on a user's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from htapkit.model import Access, Catalog, Route
from htapkit.plan import classify, finish, route
from htapkit.plan.parse import statement_count, statement_of, tokens_of, trees_of
from htapkit.plan.plan import (
    Effect,
    ExplainRoute,
    LocalQuery,
    Plan,
    Refuse,
    Relay,
    SessionView,
)
from htapkit.plan.scopes import Statement
from htapkit.plan.unproven import LocalOnlyError, UnprovenError

NOT_SUPPORTED = "0A000"
SYNTAX_ERROR = "42601"
TEXT_CHARACTERS_MAX = 200_000
"""Longer statements are relayed unread: reading them would cost more than it can win."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan, and whether other literals in the same text would give the same one."""

    plan: Plan
    by_shape: bool = True


def plan(
    sql: str, catalog: Catalog, session: SessionView, parameter_types: Sequence[int] = ()
) -> Plan:
    """How to answer one statement; what cannot be read is relayed as OTHER."""
    return decide(sql, catalog, session, parameter_types).plan


def decide(
    sql: str, catalog: Catalog, session: SessionView, parameter_types: Sequence[int] = ()
) -> Decision:
    """Like `plan`, for the cache."""
    if len(sql) > TEXT_CHARACTERS_MAX:
        return Decision(_relay(Effect.OTHER, "the text is too long to be read"))
    tokens = tokens_of(sql)
    if tokens is None:
        return Decision(_relay(Effect.OTHER, "the text cannot be read"))
    count = statement_count(tokens)
    if count != 1:
        return Decision(
            _several(tokens, sql, session) if count else _relay(Effect.OTHER, "no statement")
        )
    while tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    words = classify.words_of(tokens)
    command = _command(tokens, words, catalog, session, parameter_types)
    if command is not None:
        return Decision(command)
    tree = statement_of(tokens, sql)
    if tree is None:
        return Decision(_relay(Effect.OTHER, "the statement is not understood"))
    return _query(tree, tokens, catalog, session, parameter_types)


def _command(
    tokens: Sequence[Token],
    words: Sequence[str],
    catalog: Catalog,
    session: SessionView,
    parameter_types: Sequence[int],
) -> Plan | None:
    """Options of our own, EXPLAIN, and what only concerns the transaction or the settings."""
    if words[:1] == ["explain"]:
        return _explain(tokens, words, catalog, session, parameter_types)
    if words[0] in {"set", "show", "reset"}:
        option = classify.option(words, _texts(tokens))
        if option is not None:
            return option
    effect = classify.command_effect(words)
    return _relay(effect, f"{words[0].upper()} is the source's business") if effect else None


def _texts(tokens: Sequence[Token]) -> list[str]:
    """Like `words_of`, with the case of values kept."""
    texts: list[str] = []
    for token in tokens:
        if token.token_type is TokenType.STRING and len(texts) == 1:
            texts.extend(piece.text for piece in tokens_of(token.text) or [])
        else:
            texts.append(token.text)
    return texts


def _several(tokens: Sequence[Token], sql: str, session: SessionView) -> Plan:
    """They go to the source as they are, unless PostgreSQL must not see one of them."""
    begin = 0
    ours = any(_foreign(tree, session) for tree in trees_of(list(tokens), sql))
    for at, token in enumerate([*tokens, None]):
        if token is None or token.token_type is TokenType.SEMICOLON:
            words = classify.words_of(tokens[begin:at])
            begin = at + 1
            if words[:1] == ["explain"]:
                ours = ours or _asks_route(words)
            elif words and words[0] in {"set", "show", "reset"}:
                ours = ours or classify.option(words, words) is not None
    if ours:
        message = "a statement of htapkit's own stands among others; send it by itself"
        return Refuse(NOT_SUPPORTED, message, ())
    return _relay(Effect.OTHER, "several statements in one text")


def _asks_route(words: Sequence[str]) -> bool:
    return words[1:4] == ["(", "route", ")"]


def _explain(
    tokens: Sequence[Token],
    words: Sequence[str],
    catalog: Catalog,
    session: SessionView,
    parameter_types: Sequence[int],
) -> Plan:
    body = tokens[1].text if len(tokens) == 2 and tokens[1].token_type is TokenType.STRING else None
    if body is not None and _asks_route(words):
        inner = tokens_of(body)
        assert inner is not None  # words_of has read it
        rest = body[inner[2].end + 1 :]
        planned = plan(rest, catalog, session, parameter_types)
        if isinstance(planned, (LocalQuery, Relay, Refuse)):
            return ExplainRoute(planned)
        return Refuse(SYNTAX_ERROR, "EXPLAIN (ROUTE) takes a query", ())
    analyzes = {"analyze", "analyse"} & set(words)
    tree_tokens = tokens_of(body) if body is not None else None
    effect = Effect.OTHER
    if not analyzes and tree_tokens is not None:
        effect = Effect.READ
    return _relay(effect, "EXPLAIN is the source's business")


def _query(
    tree: exp.Expression,
    tokens: Sequence[Token],
    catalog: Catalog,
    session: SessionView,
    parameter_types: Sequence[int],
) -> Decision:
    unknown = classify.unknown_calls(tokens, tree)
    effect = classify.query_effect(tree, unknown)
    if session.route in {"lake", "union"} and effect is Effect.READ:
        message = f"htapkit.route is {session.route}: no lake is configured"
        return Decision(Refuse(NOT_SUPPORTED, message, ()))
    if session.route == "source" and not _foreign(tree, session):
        return Decision(_relay(effect, "htapkit.route is source"))
    statement = Statement(catalog, session, parameter_types)
    try:
        _harmless(effect, unknown)
        local = finish.local_query(statement, tree)
    except UnprovenError as refusal:
        return Decision(_refused(refusal, effect, tree, session), not refusal.by_value)
    except LocalOnlyError as refusal:
        reason = str(refusal)
        return Decision(
            Refuse(NOT_SUPPORTED, reason, (route.hot_choice(chosen=False, reason=reason),))
        )
    except RecursionError:
        return Decision(_relay(effect, "the statement is nested too deeply"))
    return Decision(_chosen(local, statement, effect, tree, session))


def _harmless(effect: Effect, unknown: Sequence[str]) -> None:
    """Only statements that read, with functions that are known to, are looked at further."""
    if unknown:
        raise UnprovenError(f"function {unknown[0]}()", "not on the list of what is proven")
    if effect is not Effect.READ:
        raise UnprovenError("the statement", "may write, lock or change the session")


def _only_system(tree: exp.Expression) -> bool:
    """Whether no table but system catalogs is named: that is never the hot store's business."""
    ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
    return all(
        table.db in {"pg_catalog", "information_schema"} or table.name.startswith("pg_")
        for table in tree.find_all(exp.Table)
        if table.db or table.name not in ctes
    )


def _foreign(tree: exp.Expression, session: SessionView) -> bool:
    """Whether a table of another source is named, which the connected one must never see."""
    return any(
        table.catalog and table.catalog.lower() != session.source.lower()
        for table in tree.find_all(exp.Table)
    )


def _refused(
    refusal: UnprovenError, effect: Effect, tree: exp.Expression, session: SessionView
) -> Plan:
    considered = (route.hot_choice(chosen=False, reason=str(refusal)),)
    if _foreign(tree, session):
        message = f"{refusal} (a table of another source can only be read from the hot store)"
        return Refuse(NOT_SUPPORTED, message, considered)
    reads = isinstance(tree, (exp.Query, exp.Values))
    if session.route == "hot" and reads and not _only_system(tree):
        message = f"htapkit.route is hot, which cannot answer this: {refusal}"
        return Refuse(NOT_SUPPORTED, message, considered)
    chosen = route.source_choice(chosen=True, reason="answers everything")
    return Relay(effect, (*considered, chosen))


def _chosen(
    local: finish.Local,
    statement: Statement,
    effect: Effect,
    tree: exp.Expression,
    session: SessionView,
) -> Plan:
    cost = route.rows_touched(statement)
    sources = tuple(sorted({table.source for table in statement.access}))
    foreign = any(source != session.source for source in sources)
    if foreign and local.finish is not None:
        message = "a part that only PostgreSQL can compute, over tables of another source"
        return Refuse(NOT_SUPPORTED, message, (route.hot_choice(chosen=False, reason=message),))
    faster = ""
    if session.route == "auto" and not foreign:
        if not statement.access:
            faster = "no table is read"
        elif route.is_point_lookup(statement, tree):
            faster = "one row by its key"
    if faster:
        return Relay(
            effect,
            (
                route.hot_choice(chosen=False, reason="possible, and slower", cost=cost),
                route.source_choice(chosen=True, reason=faster, cost=route.POINT_COST),
            ),
        )
    reason = "proven equal"
    if local.finish is not None:
        reason = f"proven equal, finished at the source: {local.why}"
    considered = (
        route.hot_choice(chosen=True, reason=reason, cost=cost),
        route.source_choice(chosen=False, reason="row store", cost=cost),
    )
    access = tuple(
        Access(table, frozenset(columns)) for table, columns in sorted(statement.access.items())
    )
    return LocalQuery(
        Route.HOT,
        local.sql,
        local.columns,
        tuple(statement.parameters),
        access,
        sources,
        local.finish,
        considered,
    )


def _relay(effect: Effect, reason: str) -> Plan:
    return Relay(effect, (route.source_choice(chosen=True, reason=reason),))
