"""Waits until the copy is as fresh as a local answer must be, whichever wire asked for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from htapkit.errors import Stale
from htapkit.plan.plan import LocalQuery
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.settings import Fresh, Freshness, FreshnessWanted, Options
from htapkit.serve.pgwire.state import SessionState


def admitted(
    database: Database,
    own: str,
    state: SessionState,
    query: LocalQuery,
    want: FreshnessWanted,
    *,
    given_up: Callable[[], bool],
) -> LocalQuery:
    """What to run once the role may read it and the copy is fresh enough.

    That is the query, or what its source is asked itself because the copy is not. Raises AtSource,
    Stale.
    """
    settings = state.settings
    assert settings is not None
    reason = database.origin.denied(settings.role, query.access)
    if reason:
        raise AtSource(reason)
    if query.as_of is not None or query.lookup is not None:
        return query
    sources = query.sources or (own,)
    try:
        wait_fresh(database.freshness, own, state.options, want, sources, given_up=given_up)
    except AtSource:
        if query.there is None:
            raise
        return query.there
    return query


def wait_fresh(
    freshness: Freshness,
    own: str,
    options: Options,
    want: FreshnessWanted,
    sources: Sequence[str],
    *,
    given_up: Callable[[], bool],
) -> None:
    """Wait for each source in turn, as `htapkit.wait_timeout` and `htapkit.on_stale` say.

    `own` is the session's source: the session's floors say nothing of another. Raises AtSource
    where the source shall answer instead; Stale, also once it is `given_up`.
    """
    unasked = want.fresh is Fresh.SESSION and not want.head and not want.floors
    if want.fresh is Fresh.ANY or unasked:
        return
    while True:
        try:
            for name in sources:
                here = want if name == own else replace(want, head=False, floors=())
                freshness.wait(name, here, time.monotonic() + options.wait_seconds)
        except Stale as stale:
            if options.on_stale == "source" and options.route == "auto":
                raise AtSource(str(stale)) from stale
            if options.on_stale != "wait" or given_up():
                raise
        else:
            return
