"""What a Spark runs in the place of a statement that reads more of the lake than it may here."""

from __future__ import annotations

from dataclasses import replace

from htapkit.plan.plan import LocalQuery, Plan, Refuse, SessionView

_NOT_SUPPORTED = "0A000"


def with_beyond(here: LocalQuery, there: Plan, session: SessionView) -> LocalQuery:
    """`here` with `there`, the same statement planned for a Spark, or with why that cannot be.

    Whoever runs it asks for the same rights and parameters, and does the same with the result.
    """
    if here.as_of is not None:
        return _without(here, "Spark does not read the past")
    if session.route != "auto":
        return _without(here, f"htapkit.route is {session.route}")
    if isinstance(there, Refuse):
        return replace(here, beyond=there)
    if not isinstance(there, LocalQuery):
        return _without(here, "it is the source's")
    if _around(here) != _around(there) or not set(there.parameters) <= set(here.parameters):
        return _without(here, "its result would be completed in another way")
    return replace(here, beyond=there)


def _without(here: LocalQuery, why: str) -> LocalQuery:
    return replace(here, beyond=Refuse(_NOT_SUPPORTED, why, ()))


def _around(query: LocalQuery) -> tuple[object, ...]:
    """All that others do before and after the query itself."""
    return query.columns, query.access, query.finish, query.ranking, query.clocks, query.zones
