"""Statements that this process itself asks, such as those of an export.

The answer is that of the Flight port: the same columns and types, exact, from the copy or the
source, under the rights of one role. The source's sessions are read-only: nothing asked here
changes anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo

import pyarrow as pa

from htapkit.errors import ConfigError, HtapkitError, SourceRefused
from htapkit.serve.flight.answers import Answers
from htapkit.serve.flight.clients import Client
from htapkit.serve.flight.failures import diagnosis
from htapkit.serve.flight.sources import Sources
from htapkit.serve.flight.statement import Session
from htapkit.serve.flight.watch import Watch
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.rows import text_values
from htapkit.serve.pgwire.rows_codecs import PRINTED_BY_SOURCE
from htapkit.serve.pgwire.settings import Options
from htapkit.serve.pgwire.state import Last
from htapkit.spi import OwnRole, Password

_STRONG = Options(freshness="strong", on_stale="error", wait_timeout="60s")
_SETTINGS = {
    "application_name": "htapkit export",
    "default_transaction_read_only": "on",
    "TimeZone": "UTC",  # the same file, whoever the role is
}


class StatementRefused(HtapkitError):
    """The source refused a statement; here are its words and its SQLSTATE."""

    def __init__(self, refused: HtapkitError) -> None:
        """With the source's own code."""
        self.sqlstate, message = diagnosis(refused)  # type: ignore[misc]  # differs by instance
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement that runs."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    printed: Callable[[pa.RecordBatch], pa.RecordBatch]
    """The same rows as PostgreSQL prints them, in columns of strings."""
    last: Callable[[], Last]
    """Once the first batch is there: by which route, and at which position."""


class Asker:
    """Asks under one role. Thread-safe."""

    def __init__(self, databases: Mapping[str, Database], user: str, password: str) -> None:
        """Without `user`: the role of each source's own DSN."""
        self._databases = databases
        self._user = user
        self._credential = Password(password) if user else OwnRole()
        self._sources = Sources(databases, idle_max=1, parameters=_SETTINGS)
        self._watch = Watch()

    @contextlib.contextmanager
    def ask(self, source: str, sql: str) -> Iterator[Asked]:
        """The rows of one statement, as fresh as its beginning.

        Raises ConfigError (no such source, no rows), StatementRefused, Stale and others.
        """
        if source not in self._databases:
            raise ConfigError(f"no source '{source}'; there are: {', '.join(self._databases)}")
        client = Client(self._user, self._credential)
        session = Session(client, source, _STRONG)
        try:
            with self._watch.over(None) as watched:
                answers = Answers(self._databases[source], self._sources, session, watched)
                statement = answers.statement(sql)
                fields = statement.described.fields or ()
                if not fields:
                    raise ConfigError("expected a statement that gives rows, such as SELECT")
                if statement.described.parameters:
                    raise ConfigError("the statement has parameters ($1); write their values in it")
                zone = self._sources.settings(client, source).zone

                def printed(batch: pa.RecordBatch) -> pa.RecordBatch:
                    columns = zip(batch.columns, fields, strict=True)
                    texts = [_text(array, field.oid, zone) for array, field in columns]
                    return pa.record_batch(texts, names=batch.schema.names)

                def last() -> Last:
                    # The source's answers are noted when they end, those of the copy before.
                    found = client.memory(source).last
                    return found if found.route else Last("source")

                with contextlib.closing(answers.rows(statement)) as batches:
                    yield Asked(statement.schema, batches, printed, last)
        except SourceRefused as refused:
            raise StatementRefused(refused) from refused

    def close(self) -> None:
        """Stop what runs, and let go of the connections."""
        self._watch.stop_all("the server is being stopped")
        self._watch.stop()
        self._sources.close()


def _text(array: pa.Array, oid: int, zone: tzinfo) -> pa.Array:
    """PostgreSQL's text of each value; of some types the source, who alone can, has printed it."""
    return array if oid in PRINTED_BY_SOURCE else text_values(array, oid, zone)
