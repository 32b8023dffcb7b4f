"""The conversation with the source, as tables: what it owes us, and in which phase the client is.

Everything that decides which message of the source answers which message sent to it lives here
and nowhere else. No sockets, no clock, no bytes but message types: feed `sent` and `received`,
read `status`, `phase` and `owed`. It never decides where a statement is answered; that is
`session`.

How it works. Each message that goes to the source (the client's, or a hidden one of ours) owes a
reply and stands in a queue. A reply moves the head of the queue along `REPLIES`; where the table
says None, the head is done. Messages that the table does not know for the head (rows, notices,
ParameterStatus) move nothing. An ErrorResponse voids the rest of the head's batch: PostgreSQL
skips to the next Sync, so everything in the queue up to that Sync goes; with no Sync in the
queue, the client is in SKIPPING until it sends one. A simple Query stays at the head through its
errors, because its ReadyForQuery comes anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, auto

# The messages, by type byte. F: from the client, B: from the source.
PARSE, BIND, DESCRIBE, EXECUTE, CLOSE = b"PBDEC"
SYNC, FLUSH, QUERY, CALL, TERMINATE = b"SHQFX"
COPY_DATA, COPY_DONE, COPY_FAIL = b"dcf"
AUTHENTICATION, KEY_DATA, PARAMETER_STATUS, READY, ERROR, NOTICE, NOTIFICATION = b"RKSZENA"
PARSED, BOUND, CLOSED, PARAMETERS, ROWS, NO_ROWS = b"123tTn"
ROW, COMPLETE, EMPTY, SUSPENDED, COPY_IN, COPY_OUT = b"DCIsGH"

FRONTEND = frozenset(b"PBDECSHQFXdcf")
"""What a client may send after it is logged in."""

ASYNCHRONOUS = frozenset((PARAMETER_STATUS, NOTICE, NOTIFICATION))
"""What the source may send at any moment; it answers nothing."""


class Reply(IntEnum):
    """What a message that was sent still has to be answered with."""

    PARSE = auto()  # ParseComplete
    BIND = auto()  # BindComplete
    STATEMENT = auto()  # ParameterDescription, then as ROWS
    ROWS = auto()  # RowDescription or NoData
    EXECUTE = auto()  # CommandComplete, EmptyQueryResponse or PortalSuspended
    CLOSE = auto()  # CloseComplete
    SYNC = auto()  # ReadyForQuery
    QUERY = auto()  # ReadyForQuery, after anything else
    COPY_END = auto()  # nothing: it is the client's CopyDone or CopyFail


REPLIES: Mapping[Reply, Mapping[int, Reply | None]] = {
    Reply.PARSE: {PARSED: None},
    Reply.BIND: {BOUND: None},
    Reply.STATEMENT: {PARAMETERS: Reply.ROWS},
    Reply.ROWS: {ROWS: None, NO_ROWS: None},
    Reply.EXECUTE: {COMPLETE: None, EMPTY: None, SUSPENDED: None},
    Reply.CLOSE: {CLOSED: None},
    Reply.SYNC: {READY: None},
    Reply.QUERY: {READY: None},
    Reply.COPY_END: {},
}


class Phase(IntEnum):
    """Where the client is, by what it has sent and what the source has said."""

    READY = auto()  # between batches
    BATCH = auto()  # extended messages, no Sync yet
    SKIPPING = auto()  # an error in the batch: all is ignored up to Sync
    COPYING = auto()  # the source waits for CopyData


PHASES: Mapping[Phase, Mapping[int, Phase]] = {
    Phase.READY: {
        **dict.fromkeys((PARSE, BIND, DESCRIBE, EXECUTE, CLOSE), Phase.BATCH),
        **dict.fromkeys((SYNC, FLUSH, QUERY, CALL, COPY_DATA, COPY_DONE, COPY_FAIL), Phase.READY),
    },
    Phase.BATCH: {
        **dict.fromkeys((PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, FLUSH), Phase.BATCH),
        **dict.fromkeys((COPY_DATA, COPY_DONE, COPY_FAIL), Phase.BATCH),
        **dict.fromkeys((SYNC, QUERY, CALL), Phase.READY),
    },
    Phase.SKIPPING: {
        **dict.fromkeys((PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, FLUSH), Phase.SKIPPING),
        **dict.fromkeys((QUERY, CALL, COPY_DATA, COPY_DONE, COPY_FAIL), Phase.SKIPPING),
        SYNC: Phase.READY,
    },
    Phase.COPYING: {
        **dict.fromkeys((COPY_DATA, FLUSH, SYNC), Phase.COPYING),
        **dict.fromkeys((COPY_DONE, COPY_FAIL), Phase.BATCH),  # READY where a simple Query copies
        **dict.fromkeys((PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, QUERY, CALL), Phase.COPYING),
    },
}
"""Client's message -> next phase.

An ErrorResponse and CopyInResponse move it, too (see `received`).
"""

# The hot path reads plain names; looking up a member in its class costs as much as the rest.
_SKIPPING, _IS_COPYING = Phase.SKIPPING, Phase.COPYING
_STATEMENT, _ROWS, _COPY_END = Reply.STATEMENT, Reply.ROWS, Reply.COPY_END
_QUERY = Reply.QUERY
_OWED = {
    PARSE: Reply.PARSE,
    BIND: Reply.BIND,
    EXECUTE: Reply.EXECUTE,
    CLOSE: Reply.CLOSE,
    SYNC: Reply.SYNC,
    QUERY: Reply.QUERY,
    CALL: Reply.QUERY,
}
_COPYING = frozenset((COPY_DATA, COPY_DONE, COPY_FAIL))
_ANSWERED_AT_ONCE = frozenset((SYNC, FLUSH, QUERY, CALL))
_NOTHING: frozenset[int] = frozenset()
_DATA = frozenset((ROW, COPY_DATA))
_ANSWER = _DATA | frozenset((BOUND, ROWS, COMPLETE))
_MOVES = frozenset(kind for row in REPLIES.values() for kind in row)

Captured = list[tuple[int, bytes]]


@dataclass(slots=True, eq=False)
class Owed:
    """A message that the source has not finished answering.

    `sink` takes its replies instead of the client: for hidden messages, and for replies held back.
    With `tells` an error among them is the client's all the same.
    """

    reply: Reply
    subject: object = None
    sink: Captured | None = None
    tells: bool = False
    void: bool = False  # an error came before it was done


class Conversation:
    """What was sent to the source and not answered yet, the transaction status, and the phase."""

    def __init__(self) -> None:
        """A session that has just seen its first ReadyForQuery."""
        self.owed: deque[Owed] = deque()
        self.status = "I"  # of the last ReadyForQuery: I idle, T in a transaction, E aborted
        self.phase = Phase.READY
        self.flushed = True  # all that is owed will come without another message from us

    def sent(
        self,
        kind: int,
        subject: object = None,
        sink: Captured | None = None,
        *,
        of: int = 0,
        tells: bool = False,
    ) -> Owed | None:
        """A message went to the source. `of` is `S` or `P` for Describe. Gives what it owes now."""
        phase = self.phase
        if phase is _SKIPPING and kind != SYNC:
            return None
        if phase is _IS_COPYING:
            self._sent_while_copying(kind)
            return None
        self.phase = PHASES[phase][kind]
        if kind in _COPYING:
            # Left over from a COPY that failed, or ahead of one that the source has not begun.
            if self.owed and kind != COPY_DATA:
                self.owed.append(Owed(Reply.COPY_END))
            return None
        self.flushed = kind in _ANSWERED_AT_ONCE
        if kind == DESCRIBE:
            reply: Reply | None = _STATEMENT if of == 0x53 else _ROWS
        else:
            reply = _OWED.get(kind)
        if reply is None:
            return None
        owed = Owed(reply, subject, sink, tells)
        self.owed.append(owed)
        return owed

    def _sent_while_copying(self, kind: int) -> None:
        """CopyDone and CopyFail end it; the source ignores Flush and Sync meanwhile."""
        if kind in {COPY_DONE, COPY_FAIL}:
            simple = bool(self.owed) and self.owed[0].reply is Reply.QUERY
            self.phase = Phase.READY if simple else Phase.BATCH
            self.flushed = simple

    def received(self, kind: int, status: str = "") -> tuple[Owed | None, bool]:
        """A message came from the source: whom it answers, and whether that is done now."""
        owed = self.owed
        head = owed[0] if owed else None
        if kind not in _MOVES:
            if kind == ERROR and head is not None:
                self._void()
            elif kind == COPY_IN:
                self._copy_begins()
            return head, False
        if kind == READY:
            self.status = status
        if head is None:
            return None, False
        row = REPLIES[head.reply]
        if kind not in row:
            return head, False
        following = row[kind]
        if following is None:
            owed.popleft()
            while owed and owed[0].reply is _COPY_END:
                owed.popleft()
            return head, True
        head.reply = following
        return head, False

    def passing(self) -> frozenset[int]:
        """What the source may send now that is the client's and changes nothing here."""
        if not self.owed:
            return _DATA
        head = self.owed[0]
        if head.sink is not None:
            return _NOTHING
        return _ANSWER if head.reply is _QUERY and head.subject is None else _DATA

    def _void(self) -> None:
        """An error at the head: drop what the source will skip."""
        owed = self.owed
        head: Reply = owed[0].reply
        if head in {Reply.QUERY, Reply.SYNC}:
            if self.phase is Phase.COPYING:
                self.phase = Phase.READY
                self.flushed = True
            return
        while owed and owed[0].reply is not Reply.SYNC:
            owed.popleft().void = True
        if not owed:
            self.phase = Phase.SKIPPING

    def _copy_begins(self) -> None:
        """CopyInResponse: Syncs that were sent behind the Execute are ignored by the source."""
        ended = False
        kept: deque[Owed] = deque()
        for index, entry in enumerate(self.owed):
            ended = ended or entry.reply is Reply.COPY_END
            if index == 0 or ended or entry.reply is not Reply.SYNC:
                kept.append(entry)
        self.owed = kept
        if not ended:
            self.phase = Phase.COPYING
            self.flushed = False


def diagram() -> str:
    """The two tables as text, for the documentation."""
    names = {value: name for name, value in globals().items() if isinstance(value, int)}
    lines = ["phases of the client:"]
    for phase, row in PHASES.items():
        for following in Phase:
            kinds = [chr(kind) for kind, target in row.items() if target is following]
            if kinds:
                lines.append(f"  {phase.name} --{' '.join(kinds)}--> {following.name}")
    lines.append("what is owed:")
    for reply, replies in REPLIES.items():
        for kind, then in replies.items():
            lines.append(f"  {reply.name} --{names[kind]}--> {then.name if then else 'done'}")
    return "\n".join(lines)
