"""The planner's one entry: a statement to its Plan. Pure; it never raises on a user's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from htapkit.model import OWN, Access, Catalog, Route
from htapkit.plan import classify, clock, finish, past, route
from htapkit.plan.arms import Reference
from htapkit.plan.beyond import with_beyond
from htapkit.plan.copies import copy_out
from htapkit.plan.lookups import with_lookup
from htapkit.plan.named import foreign, only_system, unknown_relation
from htapkit.plan.parse import statement_count, statement_of, tokens_of, trees_of
from htapkit.plan.parts import divisible
from htapkit.plan.plan import (
    READS,
    Considered,
    CopyOut,
    Cut,
    Effect,
    ExplainRoute,
    HotScan,
    LocalQuery,
    Plan,
    Refuse,
    Relay,
    SessionView,
    SparkQuery,
)
from htapkit.plan.scopes import Statement
from htapkit.plan.spark import spark_query
from htapkit.plan.unproven import LocalOnlyError, UnprovenError

NOT_SUPPORTED = "0A000"
SYNTAX_ERROR = "42601"
_FINISHED = "proven equal, finished at the source: "
_RANKED = "proven equal, sorted by ranks from the source: "
TEXT_CHARACTERS_MAX = 200_000
"""Longer statements are relayed unread: reading them would cost more than it can win."""


@dataclass(frozen=True, slots=True)
class Given:
    """All that a plan depends on besides the statement's text."""

    catalog: Catalog
    session: SessionView
    parameter_types: Sequence[int] = ()
    cuts: Sequence[Cut] = ()  # of the session's source, for statements that read the past


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan, and what else is known of it."""

    plan: Plan
    by_shape: bool = True  # other literals in the same text would give the same one
    timeless: bool = False  # no table of ours has a say: it means the same at any time


def plan(
    sql: str,
    catalog: Catalog,
    session: SessionView,
    parameter_types: Sequence[int] = (),
    cuts: Sequence[Cut] = (),
) -> Plan:
    """How to answer one statement; what cannot be read is relayed as OTHER.

    `cuts` are needed where `asks_past` says so: what the lake had of the session's source.
    """
    return decide(sql, Given(catalog, session, parameter_types, cuts)).plan


def decide(sql: str, given: Given) -> Decision:
    """Like `plan`, for the cache."""
    copied = copy_out(sql) if given.session.copies else None
    if copied is not None:
        return _copied(copied, given)
    made = _decision(sql, given)
    if given.session.beyond and isinstance(made.plan, LocalQuery) and made.plan.scans:
        there = replace(given, session=replace(given.session, route="spark"))
        made = replace(made, plan=with_beyond(made.plan, _decision(sql, there).plan, given.session))
    if given.session.lookups:
        made = replace(made, plan=_with_lookup(sql, made.plan, given))
    if given.session.alone:
        made = _alone(made, given.session)
    if not given.session.as_of or made.timeless or not isinstance(made.plan, Relay):
        return made
    reason = made.plan.considered[0].reason
    message = f"htapkit.as_of is set, and this cannot be answered by the past: {reason}"
    return Decision(Refuse(NOT_SUPPORTED, message, ()))


def _copied(copied: CopyOut, given: Given) -> Decision:
    """The plan of the query that is copied, whose rows go out otherwise."""
    made = decide(copied.query, replace(given, session=replace(given.session, copies=False)))
    if isinstance(made.plan, LocalQuery):
        return replace(made, plan=replace(made.plan, copied=copied))
    if isinstance(made.plan, Refuse) or (
        isinstance(made.plan, Relay) and made.plan.effect in READS
    ):
        return made
    return Decision(_relay(Effect.OTHER, "COPY of no query that only reads"))


def _with_lookup(sql: str, made: Plan, given: Given) -> Plan:
    session = given.session
    named = session.alone or any(name.lower() in sql.lower() for name in session.lookups)
    reads = isinstance(made, LocalQuery | Relay | Refuse) and len(sql) <= TEXT_CHARACTERS_MAX
    tokens = tokens_of(sql) if named and reads else None
    tree = statement_of(tokens, sql) if tokens else None
    if tree is None:
        return made
    unseen = foreign(tree, session)
    asks = session.clock and clock.can_be_asked(tree)
    types = given.parameter_types
    fresh = Statement(given.catalog, session, types, clock=asks, unseen=unseen, parsed=False)
    try:
        return with_lookup(tree, made, fresh)
    except RecursionError:
        return made


def _alone(made: Decision, session: SessionView) -> Decision:
    """A source that answers no SQL has no say: what the copy cannot answer is refused, with why.

    But for commands, which are the session's.
    """
    plan = made.plan
    if isinstance(plan, Relay):
        stays = plan.effect not in READS and (made.timeless or plan.effect is not Effect.OTHER)
    else:
        stays = not isinstance(plan, LocalQuery) or not plan.completed
    if stays or not isinstance(plan, (LocalQuery, Relay)):
        return made
    reason = plan.considered[0].reason.removeprefix(_FINISHED).removeprefix(_RANKED)
    message = (
        f"{session.source} has no PostgreSQL behind it, and the copy cannot answer this: {reason}"
    )
    here = (replace(each, chosen=False) for each in plan.considered if each.route != Route.SOURCE)
    return replace(made, plan=Refuse(NOT_SUPPORTED, message, tuple(here)))


def _decision(sql: str, given: Given) -> Decision:
    long = len(sql) > TEXT_CHARACTERS_MAX
    tokens = None if long else tokens_of(sql)
    if tokens is None:
        why = "is too long to be read" if long else "cannot be read"
        return Decision(_relay(Effect.OTHER, f"the text {why}"))
    count = statement_count(tokens)
    if count == 0:
        return Decision(_relay(Effect.OTHER, "no statement"), timeless=True)
    if count > 1:
        return Decision(_several(tokens, sql, given.session))
    while tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    words = classify.words_of(tokens)
    command = _command(tokens, words, given)
    if command is not None:
        return Decision(command, timeless=True)
    tree = statement_of(tokens, sql)
    if tree is None:
        return Decision(_relay(Effect.OTHER, "the statement is not understood"))
    return _query(tree, tokens, given)


def _command(tokens: Sequence[Token], words: Sequence[str], given: Given) -> Plan | None:
    """Options of our own, EXPLAIN, and what only concerns the transaction or the settings."""
    if words[:1] == ["explain"]:
        return _explain(tokens, words, given)
    if words[0] in {"set", "show", "reset"}:
        option = classify.option(words, _texts(tokens))
        if option is not None:
            return option
    effect = classify.command_effect(words)
    if given.session.alone and words[0] == "deallocate":
        effect = Effect.OTHER  # what stands in for the source knows it
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
    trees = trees_of(list(tokens), sql)
    ours = any(foreign(tree, session) or past.names_past(tree) for tree in trees)
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
    return bool(_options(words)) and "route" in _options(words)


def _options(words: Sequence[str]) -> Sequence[str]:
    """What stands in the parentheses behind EXPLAIN."""
    if words[1:2] != ["("] or ")" not in words:
        return ()
    return words[2 : words.index(")")]


def _explain(tokens: Sequence[Token], words: Sequence[str], given: Given) -> Plan:
    body = tokens[1].text if len(tokens) == 2 and tokens[1].token_type is TokenType.STRING else None
    if _asks_route(words) and _options(words) != ["route"]:
        return Refuse(SYNTAX_ERROR, "EXPLAIN (ROUTE) takes no other option", ())
    if body is not None and _asks_route(words):
        inner = tokens_of(body)
        assert inner is not None  # words_of has read it
        rest = body[inner[2].end + 1 :]
        planned = decide(rest, given).plan
        if isinstance(planned, (LocalQuery, Relay, Refuse)):
            return ExplainRoute(planned)
        return Refuse(SYNTAX_ERROR, "EXPLAIN (ROUTE) takes a query", ())
    analyzes = {"analyze", "analyse"} & set(words)
    tree_tokens = tokens_of(body) if body is not None else None
    effect = Effect.OTHER
    if not analyzes and tree_tokens is not None:
        effect = Effect.READ
    return _relay(effect, "EXPLAIN is the source's business")


def _query(tree: exp.Expression, tokens: Sequence[Token], given: Given) -> Decision:
    session = given.session
    unknown = classify.unknown_calls(tokens, tree)
    effect = classify.query_effect(tree, unknown)
    timeless = effect is Effect.READ and only_system(tree)
    asks = session.clock and clock.can_be_asked(tree)
    unseen = foreign(tree, session)
    statement = Statement(
        given.catalog,
        session,
        given.parameter_types,
        cuts=given.cuts,
        clock=asks,
        unseen=unseen,
        parts=session.parts and session.route != "spark" and divisible(tree),
        parsed=not (unseen or session.alone or past.names_past(tree)),
    )
    relayed = effect
    if effect is Effect.READ and unknown_relation(statement, tree):
        relayed = Effect.VIEW
    if session.route == "source" and not unseen and not past.names_past(tree):
        return Decision(_relay(relayed, "htapkit.route is source"), timeless=timeless)
    try:
        _harmless(effect, unknown)
        local = finish.local_query(statement, tree)
        read = [each for each in statement.references if each.sql() in local.sql]
        route.check_horizons(session.route, read)
        return Decision(_chosen(local, statement, relayed, tree, read), timeless=timeless)
    except UnprovenError as refusal:
        made = _refused(refusal, relayed, tree, session)
        return Decision(made, not refusal.by_value, timeless)
    except LocalOnlyError as refusal:
        reason = str(refusal)
        return Decision(
            Refuse(refusal.sqlstate, reason, (route.hot_choice(chosen=False, reason=reason),))
        )
    except RecursionError:
        return Decision(_relay(relayed, "the statement is nested too deeply"))


def _harmless(effect: Effect, unknown: Sequence[str]) -> None:
    """Only statements that read, with functions that are known to, are looked at further."""
    if unknown:
        raise UnprovenError(f"function {unknown[0]}()", "not on the list of what is proven")
    if effect is not Effect.READ:
        raise UnprovenError("the statement", "may write, lock or change the session")


def _refused(
    refusal: UnprovenError, effect: Effect, tree: exp.Expression, session: SessionView
) -> Plan:
    considered = (route.hot_choice(chosen=False, reason=str(refusal)),)
    if foreign(tree, session):
        message = f"{refusal} (a table of another source, and a view of htapkit, is read here only)"
        return Refuse(NOT_SUPPORTED, message, considered)
    if past.names_past(tree):
        message = f"{refusal} (the source has no past: AS OF is answered by the lake alone)"
        return Refuse(NOT_SUPPORTED, message, considered)
    reads = isinstance(tree, (exp.Query, exp.Values))
    if session.route in route.LOCAL and reads and not only_system(tree):
        message = f"htapkit.route is {session.route}, which cannot answer this: {refusal}"
        return Refuse(NOT_SUPPORTED, message, considered)
    chosen = route.source_choice(chosen=True, reason="answers everything")
    return Relay(effect, (*considered, chosen))


def _chosen(
    local: finish.Local,
    statement: Statement,
    effect: Effect,
    tree: exp.Expression,
    read: Sequence[Reference],
) -> Plan:
    session = statement.session
    cost = route.rows_touched(read)
    sources = route.sources(statement)
    others = any(source != session.source for source in sources)
    own_words = past.names_past(tree)
    is_past = any(each.past for each in read)
    only_views = sources == (OWN,)
    forced = "auto" if only_views else "lake" if is_past else session.route
    here = others or session.alone
    faster = "" if here else route.faster_at_source(statement, tree, forced)
    if faster:
        return Relay(
            effect,
            (
                route.hot_choice(chosen=False, reason="possible, and slower", cost=cost),
                route.source_choice(chosen=True, reason=faster, cost=route.POINT_COST),
            ),
        )
    forbidden = past.obstacle(read, session)
    if not forbidden and not is_past:
        forbidden = route.forbidden(forced, read, spark=session.spark)
    if forbidden:
        message = forbidden if is_past else f"htapkit.route is {forced}, and {forbidden}"
        refused = Considered(route.taken("auto", read), chosen=False, reason=forbidden, cost=cost)
        return Refuse(NOT_SUPPORTED, message, (refused,))
    reason, spark = _reason(local), _for_spark(local, read) if forced == "spark" else None
    taken = route.taken(forced, read)
    return LocalQuery(
        taken,
        local.sql,
        local.columns,
        tuple(statement.parameters),
        _access(statement),
        sources,
        local.finish,
        route.candidates(taken, read, reason, cost),
        tuple(each.lake_scan(statement.access[each.table]) for each in read if each.scan),
        route.cuts(read),
        read[0].boundary.position if is_past and read[0].boundary is not None else None,
        own_words,
        tuple(statement.clocks),
        route.floors(session.route, read),
        tuple(sorted(table.name for table in statement.access if table.source == OWN)),
        next((HotScan(each.hot, each.table) for each in read if each.hot), None),
        local.ranking,
        spark,
        tuple(statement.zones),
        tuple(statement.probes),
    )


def _for_spark(local: finish.Local, read: Sequence[Reference]) -> SparkQuery:
    if local.ranking is not None:
        raise UnprovenError("text order", "under a collation other than C, not proven in Spark")
    return spark_query(local.sql, read)


def _access(statement: Statement) -> tuple[Access, ...]:
    """What it reads of the sources' tables."""
    return tuple(
        Access(table, frozenset(columns))
        for table, columns in sorted(statement.access.items())
        if table.source != OWN
    )


def _reason(local: finish.Local) -> str:
    if local.finish is not None:
        return f"{_FINISHED}{local.why}"
    return f"{_RANKED}{local.why}" if local.ranking is not None else "proven equal"


def _relay(effect: Effect, reason: str) -> Plan:
    return Relay(effect, (route.source_choice(chosen=True, reason=reason),))
