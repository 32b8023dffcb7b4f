"""Rows written over CQL: prepared, so many at once, tried again where that is harmless."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from cassandra import ConsistencyLevel, DriverException, InvalidRequest, Unauthorized
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import BoundStatement, PreparedStatement

from htapkit_cassandra.cluster import translated
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.spool import Row

CONCURRENT: Final = 64
ATTEMPTS_MAX: Final = 5
PAUSE_SECONDS: Final = 1.0
WRITE_SECONDS_MAX: Final = 30
_FINAL: Final = (InvalidRequest, Unauthorized)  # the same again would fail again


class Writer:
    """Writes the rows of one load over a session, all at one time."""

    def __init__(
        self,
        settings: Settings,
        opened: Session,
        statement: str,
        consistency: str,
        written: int,
        *,
        again: bool,
    ) -> None:
        """`written`: their time in microseconds; `again`: to write a row twice is harmless.

        Raises SourceError: no right to.
        """
        self._settings = settings
        self._session = opened
        self._consistency = getattr(ConsistencyLevel, consistency)
        self._written = written.to_bytes(8, "big", signed=True)
        self._again = again
        with translated(settings):
            self._prepared = opened.prepare(statement)
        self._profile = opened.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, request_timeout=WRITE_SECONDS_MAX
        )

    def write(self, rows: Sequence[Row]) -> None:
        """All of them are acknowledged at its end. Raises SourceRefused, SourceUnavailable.

        A row that was not acknowledged may be there nevertheless.
        """
        left, attempts = rows, ATTEMPTS_MAX if self._again else 1
        for attempt in range(attempts):
            results = execute_concurrent(
                self._session,
                [(self._bound(row), ()) for row in left],
                concurrency=CONCURRENT,
                raise_on_first_error=False,
                execution_profile=self._profile,
            )
            failed = [(row, r.result_or_exc) for row, r in zip(left, results, strict=True)
                      if not r.success]  # fmt: skip
            if not failed:
                return
            left, (_, error) = [row for row, _ in failed], failed[0]
            final = any(isinstance(e, _FINAL) for _, e in failed) or attempt == attempts - 1
            if final or not isinstance(error, (DriverException, NoHostAvailable)):
                with translated(self._settings):
                    raise error
            time.sleep(PAUSE_SECONDS * 2**attempt)

    def _bound(self, row: Row) -> BoundStatement:
        made = bound(self._prepared, [*row, self._written], self._consistency)
        made.is_idempotent = self._again
        return made


def bound(
    prepared: PreparedStatement, values: Sequence[bytes | None], level: int
) -> BoundStatement:
    """A statement with values as the node itself writes them."""
    made = BoundStatement(prepared)
    made.consistency_level = level
    made.is_idempotent = True
    made.values = list(values)
    return made
