"""A Cassandra node as a Source: what of the contract is there, and a clear refusal of the rest.

Discovery, comparison and the preflight are whole. Rows written cell by cell and merged by their
times are no transactions: until the hot store can reconcile them, `follow` and `snapshot` refuse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from htapkit.errors import SourceRefused
from htapkit.model import Broken, Finding, Position, TableId, TableSchema
from htapkit.spi import ChangeStream, Discovered, Snapshot, SourceOptions
from htapkit_cassandra import catalog, preflight
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.jars import classpath
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.settings import Settings, parse_settings
from htapkit_cassandra.tail import LogTail, Program


class LogOrder:
    """A position is a place in the log of each node: JSON, `{"node": [segment, offset]}`."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether it has, for every node that `want` names, all up to there."""
        ours = json.loads(have)
        return all(ours.get(node, [-1, -1]) >= place for node, place in json.loads(want).items())


class RefusedHead:
    """No stream, no head."""

    def __init__(self, settings: Settings) -> None:
        """Keep the source's name."""
        self._settings = settings

    def head(self) -> Position:
        """Refused."""
        _refuse(self._settings)

    def mark(self, token: str) -> None:  # noqa: ARG002
        """Refused."""
        _refuse(self._settings)


class CassandraSource:
    """The factory under the entry point `htapkit.sources`, and the spi.Source that it makes."""

    positions: LogOrder
    head: RefusedHead
    origin: None

    def __init__(self, options: SourceOptions) -> None:
        """Check the settings; nothing is connected yet. Raises ConfigError."""
        self._settings = parse_settings(options)
        self.positions = LogOrder()
        self.head = RefusedHead(self._settings)
        self.origin = None

    def identity(self) -> str:
        """The node whose log is read: its host id."""
        with session(self._settings) as opened, translated(self._settings):
            (local,) = opened.execute("SELECT host_id FROM system.local")
        return str(local.host_id)

    def check(self) -> Sequence[Finding]:
        """The preflight. Changes nothing."""
        return preflight.check(self._settings)

    def discover(self) -> Sequence[Discovered]:
        """The tables that the configuration's patterns match now."""
        with session(self._settings) as opened, translated(self._settings):
            return catalog.describe(opened, self._settings)

    def compare(self, schema: TableSchema, fingerprint: str, now: Discovered) -> Broken | None:
        """What became of a table since it was copied as (`schema`, `fingerprint`)."""
        return catalog.compare(schema, fingerprint, now)

    def follow(
        self,
        start: Position | None,  # noqa: ARG002
        tables: Sequence[TableSchema],  # noqa: ARG002
    ) -> ChangeStream:
        """Refused: there is nothing yet that merges cells."""
        _refuse(self._settings)

    def snapshot(
        self,
        tables: Sequence[TableId],  # noqa: ARG002
        as_text: Mapping[TableId, frozenset[str]],  # noqa: ARG002
    ) -> Snapshot:
        """Refused, as `follow`."""
        _refuse(self._settings)

    def log(self, start: LogPosition | None = None) -> LogTail:
        """The node's changes as it logged them, for who merges cells. Raises SourceRefused."""
        settings = self._settings
        if not settings.cdc_raw:
            raise SourceRefused(f"sources.{settings.source}.cdc_raw is not set: see `check`")
        program = Program(
            classpath(settings.cassandra_home), Path(settings.cdc_raw), settings.helper_memory
        )
        return LogTail(program, self._schema, start)

    def _schema(self) -> str:
        with session(self._settings) as opened, translated(self._settings):
            return catalog.helper_schema(opened)

    def detach(self) -> None:
        """Nothing was created."""

    def close(self) -> None:
        """Nothing is kept."""


def _refuse(settings: Settings) -> NoReturn:
    raise SourceRefused(f"{settings.source}: {preflight.NOT_YET}")
