"""Hidden questions of a session to its source.

Settings, what a statement's columns are, time zones.

The client sees nothing of them. Within a batch or a transaction they belong to it, so an error
among them is the client's, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import tzinfo
from functools import partial
from zoneinfo import ZoneInfo

from htapkit.errors import HtapkitError
from htapkit.plan.plan import LocalQuery, Probe
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.database import Database, Described
from htapkit.serve.pgwire.parameters import OddParameter, decode
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.protocol import Captured
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.settings import read_settings, zone_named
from htapkit.serve.pgwire.state import SessionState
from htapkit.serve.pgwire.zone_editions import computing_answer, computing_question
from htapkit.serve.pgwire.zone_offsets import zone_answer, zone_offsets, zone_question
from htapkit.sqlfiles import sql

NAME = b"_htapkit"  # of hidden statements and portals


class HiddenFailed(HtapkitError):
    """The source refused a hidden message, so the client's transaction is in error now, too."""

    def __init__(self, body: bytes) -> None:
        """Keep the source's own words for the client."""
        super().__init__(
            messages.error_fields(body).get("M", "the source refused a hidden message")
        )
        self.body = messages.without_position(body)


class Questions:
    """What one session asks its source."""

    def __init__(self, database: Database, link: Link, state: SessionState) -> None:
        """All are the session's own."""
        self._database = database
        self._link = link
        self._state = state

    def _ask(self, text: str) -> dict[int, bytes]:
        """The replies to one statement."""
        replies = self._link.exchange(
            [
                messages.close(b"S", NAME),
                messages.parse(NAME, text),
                messages.bind(NAME, NAME),
                messages.describe(b"P", NAME),
                messages.execute(NAME),
                messages.close(b"P", NAME),
                messages.close(b"S", NAME),
            ]
        )
        return checked(replies)

    def refresh(self) -> None:
        """Read the session's settings. Raises HiddenFailed."""
        found = self._ask(sql("source/session_settings"))
        names = [field.name for field in messages.read_fields(found[protocol.ROWS])]
        self._state.learn(read_settings(names, messages.read_row(found[protocol.ROW])))

    def _key(self, text: bytes, types: bytes) -> tuple[object, ...]:
        state = self._state
        role = state.settings.role if state.settings else ""
        return (text, types, state.view.search_path, role, self._database.catalog_version())

    def describe(self, text: bytes, types: bytes, *, anew: bool = False) -> Described:
        """What a text gives. `anew`: ask even if it is known. Raises HiddenFailed."""
        key = self._key(text, types)
        found = self._database.described.get(key)
        if found is not None and not anew:
            return found
        replies = checked(
            self._link.exchange(
                [
                    messages.close(b"S", NAME),
                    messages.message(b"P", NAME + b"\0" + text + b"\0" + (types or b"\0\0")),
                    messages.describe(b"S", NAME),
                    messages.close(b"S", NAME),
                ]
            )
        )
        body = replies.get(protocol.ROWS)
        fields = messages.read_fields(body) if body is not None else None
        described = Described(messages.read_oids(replies[protocol.PARAMETERS]), fields)
        self._database.described.put(key, described)
        return described

    def clocks(self, query: LocalQuery) -> tuple[object, ...]:
        """The values of LocalQuery.clocks, in the session's own transaction.

        Raises AtSource where they are not of the planned types, HiddenFailed.
        """
        if not query.clocks:
            return ()
        found = self._ask("SELECT " + ", ".join(clock.sql for clock in query.clocks))
        oids = [field.oid for field in messages.read_fields(found[protocol.ROWS])]
        if oids != [clock.type.oid for clock in query.clocks]:
            raise AtSource("the source's clock gives other types")
        texts = messages.read_row(found[protocol.ROW])
        try:
            return tuple(
                decode(None if text is None else text.encode(), oid, 0)
                for text, oid in zip(texts, oids, strict=True)
            )
        except OddParameter as odd:
            raise AtSource(f"the source's clock: {odd}") from odd

    def zone_agrees(self, zone: tzinfo) -> bool:
        """Whether the source's edition of the session's zone is ours. Raises HiddenFailed."""
        if zone_offsets(zone) is None:
            return True
        return self._confirmed(str(zone), lambda: (zone_question(zone), zone_answer(zone)))

    def confirm(self, query: LocalQuery) -> None:
        """The source computes as DuckDB does what the query says. Raises AtSource, HiddenFailed."""
        for name in query.zones:
            if not self._computes_in(name):
                raise AtSource(f"the source computes otherwise in the time zone {name}")
        for probe in query.probes:
            if not self._confirmed(probe.sql, partial(_asked, probe)):
                raise AtSource(f"the source computes otherwise: {probe.sql}")

    def _computes_in(self, name: str) -> bool:
        """Whether the source and DuckDB compute alike in a time zone."""
        zone = zone_named(name)
        if not isinstance(zone, ZoneInfo):
            return False
        return self._confirmed(f"computing in {name}", partial(_computing, zone))

    def _confirmed(self, key: str, both: Callable[[], tuple[str, str]]) -> bool:
        """Whether the source answers so, as far as it was asked lately.

        `both` gives the question and the answer ("": there is none), where they are needed.
        """
        known = self._database.zones.get(key, time.monotonic())
        if known is None:
            question, answer = both()
            known = bool(answer) and (
                messages.read_row(self._ask(question)[protocol.ROW])[0] == answer
            )
            self._database.zones.put(key, time.monotonic(), agrees=known)
        return known


def _computing(zone: ZoneInfo) -> tuple[str, str]:
    return computing_question(zone), computing_answer(zone)


def _asked(probe: Probe) -> tuple[str, str]:
    return probe.sql, probe.answer


def checked(replies: Captured) -> dict[int, bytes]:
    """The replies by their type (one of each). Raises HiddenFailed."""
    return dict(checked_list(replies))


def checked_list(replies: Captured) -> Captured:
    """The replies. Raises HiddenFailed."""
    for kind, body in replies:
        if kind == protocol.ERROR:
            raise HiddenFailed(body)
    return replies
