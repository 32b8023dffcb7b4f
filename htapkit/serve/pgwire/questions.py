"""Hidden questions of a session to its source.

Settings, what a statement's columns are, time zones.

The client sees nothing of them. Within a batch or a transaction they belong to it, so an error
among them is the client's, too.
"""

from __future__ import annotations

import time
from datetime import tzinfo

from htapkit.errors import HtapkitError
from htapkit.plan.plan import LocalQuery
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.database import Database, Described
from htapkit.serve.pgwire.parameters import OddParameter, decode
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.protocol import Captured
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.settings import read_settings
from htapkit.serve.pgwire.state import SessionState
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
        zones, name = self._database.zones, str(zone)
        known = zones.get(name, time.monotonic())
        if known is None:
            row = messages.read_row(self._ask(zone_question(zone))[protocol.ROW])
            known = row[0] == zone_answer(zone)
            zones.put(name, time.monotonic(), agrees=known)
        return known


def checked(replies: Captured) -> dict[int, bytes]:
    """The replies by their type (one of each). Raises HiddenFailed."""
    return dict(checked_list(replies))


def checked_list(replies: Captured) -> Captured:
    """The replies. Raises HiddenFailed."""
    for kind, body in replies:
        if kind == protocol.ERROR:
            raise HiddenFailed(body)
    return replies
