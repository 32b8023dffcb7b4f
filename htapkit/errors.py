"""Every error that htapkit raises on purpose, in one tree.

HtapkitError
├── ConfigError            the configuration file or an option is wrong (nothing was started)
├── SourceError            the source, or the way to it, is at fault
│   ├── SourceUnavailable  it does not answer now (retried)
│   ├── SourceRefused      it answered, and said no: privileges, settings, identity
│   └── PositionLost       the source no longer has the changes after our position
├── UnfaithfulValue        a value that the column's native storage cannot hold exactly
├── TableSetAside          one table cannot be followed; the others go on
├── StoreError             the hot store's file, disk or lock
│   ├── StoreLocked        another process owns it
│   └── StoreFailed        DuckDB gave up on the file (disk full); it is reopened
├── LakeFailed             the lake's catalog or storage did not do it now (retried)
│   └── LakeRefused        the lake cannot do this as it is; somebody has to change something
├── SinkFailed             a sink does not answer, or did not do it now (retried)
│   └── SinkRefused        it said no; somebody has to change something
├── LimitReached           one of the configured limits, named
│   └── ScanTooLarge       a statement reads more of the lake than one may here
├── EngineFailed           another engine (Spark) is not there, or did not do it
├── NotRoutable            a forced route cannot run this statement
├── Stale                  the answer cannot be as fresh as was asked in the time allowed
├── QueryFailed            a statement failed in the hot store
├── QueryCancelled      a statement was stopped: by its client or by a time limit
├── CatalogChanged      a table changed before it was read: plan, or copy, again
└── ProtocolError          the client broke the wire protocol

Each class carries `sqlstate`, so that the wire needs no table of its own, and `retry`: whether the
same call may succeed later without anybody's help.
"""

from __future__ import annotations

from typing import ClassVar


class HtapkitError(Exception):
    """The root. The message says what, which, and what to do."""

    sqlstate: ClassVar[str] = "XX000"
    retry: ClassVar[bool] = False


class ConfigError(HtapkitError):
    """A key of the configuration: what was found there and what is allowed."""

    sqlstate = "F0000"


class SourceError(HtapkitError):
    """The source, or the way to it, is at fault."""

    sqlstate = "08000"


class SourceUnavailable(SourceError):
    """The source does not answer now."""

    sqlstate = "08006"
    retry = True


class SourceRefused(SourceError):
    """The source answered and said no; somebody has to change something there.

    `diagnostic` is the body of its own ErrorResponse, where there is one, for the client to see.
    """

    sqlstate = "42501"

    def __init__(self, message: str, diagnostic: bytes = b"") -> None:
        """Keep the server's own words beside ours."""
        super().__init__(message)
        self.diagnostic = diagnostic


class PositionLost(SourceError):
    """The changes after our position are gone at the source: only a new copy helps."""

    sqlstate = "58P01"


class UnfaithfulValue(HtapkitError):
    """A value that the column's native storage cannot hold exactly: the column is kept as text."""

    sqlstate = "22003"

    def __init__(self, table: object, column: str, why: str) -> None:
        """`why` never contains the value itself."""
        super().__init__(f"{table}, column {column}: {why}; the column is kept as text")
        self.table = table
        self.column = column
        self.why = why

    def __reduce__(self) -> tuple[type[UnfaithfulValue], tuple[object, str, str]]:
        """Pickle by the three parts."""
        return type(self), (self.table, self.column, self.why)


class TableSetAside(HtapkitError):
    """One table cannot be followed; its statements go to the source until it is copied again."""

    sqlstate = "55000"

    def __init__(self, table: object, why: str) -> None:
        """`why` is shown by `htapkit status`."""
        super().__init__(f"{table} is set aside: {why}")
        self.table = table
        self.why = why

    def __reduce__(self) -> tuple[type[TableSetAside], tuple[object, str]]:
        """Pickle by the two parts."""
        return type(self), (self.table, self.why)


class StoreError(HtapkitError):
    """The hot store's file, disk or lock."""

    sqlstate = "58030"


class StoreLocked(StoreError):
    """Another process owns the hot store."""

    sqlstate = "55006"


class StoreFailed(StoreError):
    """DuckDB gave up on the file (a full disk, an I/O error); the store reopens it and goes on."""

    sqlstate = "53100"
    retry = True


class LakeFailed(HtapkitError):
    """The lake's catalog or storage did not do it now: nothing of the step has happened."""

    sqlstate = "58030"
    retry = True


class LakeRefused(LakeFailed):
    """The lake cannot do this as it is; the message says what to change."""

    sqlstate = "0A000"
    retry = False


class LakeMissing(LakeRefused):
    """The catalog has no such table, or nothing was ever written to it."""


class SinkFailed(HtapkitError):
    """A sink does not answer now, or did not take what was sent: nothing of it is visible there."""

    sqlstate = "58030"
    retry = True


class SinkRefused(SinkFailed):
    """A sink cannot take this as it is; the message says what to change."""

    sqlstate = "0A000"
    retry = False


class StillThere(HtapkitError):
    """Rows that are to be erased here are still at the source, and would come back."""

    sqlstate = "55000"


class LimitReached(HtapkitError):
    """One of the configured limits; the message names its key."""

    sqlstate = "53400"
    retry = True


class ScanTooLarge(LimitReached):
    """A statement reads more of the lake than limits.scan, and no Spark can run it instead."""

    retry = False


class EngineFailed(HtapkitError):
    """Another engine does not answer, or a statement failed there; the message has its words."""

    sqlstate = "58000"
    retry = True


class NotRoutable(HtapkitError):
    """A forced route cannot run this statement; the message names the construct and why."""

    sqlstate = "0A000"


class LookupRefused(NotRoutable):
    """A source cannot answer a statement itself; the message names the key that is missing."""


class LookupFailed(HtapkitError):
    """A source that was asked to answer a statement itself does not answer now."""

    sqlstate = "08006"
    retry = True


class Stale(HtapkitError):
    """The answer cannot be as fresh as was asked within the time allowed."""

    sqlstate = "57014"
    retry = True


class QueryFailed(HtapkitError):
    """A statement failed in the hot store (the wire then asks the source, whose word counts)."""

    sqlstate = "XX000"


class QueryCancelled(HtapkitError):
    """A statement was stopped: by its client or by a time limit."""

    sqlstate = "57014"


class MomentGone(HtapkitError):
    """The rows of a ticket are of a moment that is not kept any more: ask for the whole again."""

    sqlstate = "72000"
    retry = True


class PartInUse(HtapkitError):
    """The rows of a ticket are being read by another call."""

    sqlstate = "55006"
    retry = True


class CatalogChanged(HtapkitError):
    """A table changed between looking at it and reading it: plan or copy again."""

    sqlstate = "40001"
    retry = True


class ProtocolError(HtapkitError):
    """The client broke the wire protocol."""

    sqlstate = "08P01"
