"""Short statements that are the source's for certain, passed on as they came.

A simple Query, or a bound statement executed to its end, alone between two ReadyForQuery, in no
transaction block: its plan is known to be a relayed read, so nothing has to be asked, planned or
remembered. To the conversation such a batch is one question: whatever comes back up to
ReadyForQuery is the client's. Anything else is left to the session.
"""

from __future__ import annotations

import struct
from collections.abc import MutableMapping

from htapkit.plan.plan import Effect, Relay
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.plans import Plans
from htapkit.serve.pgwire.portal import Statement
from htapkit.serve.pgwire.protocol import Phase
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.state import RELAYED, SessionState
from htapkit.serve.pgwire.tally import Relays

_LENGTH = struct.Struct("!I")
_BYTES_MAX = 8192  # of a batch: the source's connection takes it at once, whatever happens
_QUERY, _BIND = b"QB"
_EXECUTE = messages.execute(b"") + messages.SYNC
_ENDINGS = frozenset((_EXECUTE, messages.describe(b"P", b"") + _EXECUTE))


class Lookups:
    """Passes short statements on. One for each session."""

    def __init__(
        self,
        state: SessionState,
        link: Link,
        plans: Plans,
        statements: MutableMapping[bytes, Statement],
        relays: Relays,
    ) -> None:
        """All are the session's own."""
        self._state = state
        self._link = link
        self._plans = plans
        self._statements = statements
        self._relays = relays

    def passes(self, data: bytes) -> bool:
        """Send on a batch that the source shall answer, if that is certain; else do nothing."""
        conversation = self._link.conversation
        if (
            not 6 <= len(data) <= _BYTES_MAX
            or conversation.status != "I"
            or conversation.phase is not Phase.READY
            or self._state.unknown
        ):
            return False
        after = 1 + _LENGTH.unpack_from(data, 1)[0]
        if data[0] == _QUERY:
            if after != len(data) or not self._plans.reads_there(data[5:-1]):
                return False
            self._statements.pop(b"", None)
        elif data[0] != _BIND or data[after:] not in _ENDINGS or not self._is_lookup(data):
            return False
        self._state.last, self._state.relayed = RELAYED, True
        self._relays.count += 1
        conversation.sent(protocol.QUERY)
        self._link.send(data)
        return True

    def _is_lookup(self, data: bytes) -> bool:
        """Whether this Bind makes the unnamed portal of a statement that is always relayed."""
        if data[5]:
            return False
        statement = self._statements.get(data[6 : data.find(b"\0", 6)])
        return (
            statement is not None
            and statement.confirmed
            and isinstance(statement.plan, Relay)
            and statement.plan.effect is Effect.READ
            and self._plans.settled(statement)
            and isinstance(statement.plan, Relay)
        )
