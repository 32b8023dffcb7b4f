"""Waits until the copy is as fresh as a local answer must be, whichever wire asked for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from htapkit.errors import Stale
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.settings import Fresh, Freshness, FreshnessWanted, Options


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
