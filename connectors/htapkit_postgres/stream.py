"""The changes of one PostgreSQL database as batches of whole transactions.

A receiver thread takes the bytes (`receiver`), the caller's thread makes rows of them (`decode`),
and here it is decided what a relation's rows are: at every relation message the catalog is asked,
because a relation message alone cannot tell a rename from a new column. It never goes on with a
table whose rows it cannot explain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from htapkit.errors import UnfaithfulValue
from htapkit.model import (
    Broken,
    Change,
    ChangeBatch,
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
)
from htapkit.spi import Discovered
from htapkit_postgres.chunk import Chunk
from htapkit_postgres.decode import Decoder
from htapkit_postgres.fingerprint import compare, parse, with_storage
from htapkit_postgres.head import PostgresHead
from htapkit_postgres.pgoutput import Relation, from_microseconds, lsn_position, position_lsn
from htapkit_postgres.receiver import Receiver

Look = Callable[[Sequence[TableId]], tuple[float, Mapping[TableId, Discovered]]]
"""When (monotonic, before it was read) and how these tables are in the catalog, if they are."""


@dataclass(slots=True)
class _Known:
    """What the stream believes of the tables. Copied before each chunk, to try one again."""

    expected: dict[TableId, TableSchema] = field(default_factory=dict)
    fingerprints: dict[TableId, str] = field(default_factory=dict)
    names: dict[int, TableId] = field(default_factory=dict)  # of every relation seen
    layouts: dict[TableId, TableSchema] = field(
        default_factory=dict
    )  # that the last relation fitted

    def copy(self) -> _Known:
        return _Known(
            dict(self.expected), dict(self.fingerprints), dict(self.names), dict(self.layouts)
        )


class PostgresStream:
    """An spi.ChangeStream."""

    def __init__(
        self,
        source: str,
        receiver: Receiver,
        look: Look,
        tables: Sequence[TableSchema],
        head: PostgresHead,
    ) -> None:
        """`head` knows the newest position of the server's log, and is told of ours."""
        self._source = source
        self._receiver = receiver
        self._look = look
        self._head = head
        self._known = _Known()
        self._seen: tuple[float, Mapping[TableId, Discovered]] = (0.0, {})
        self._chunk: Chunk | None = None
        self._late: list[Change] = []
        self._revived = False
        self._renamed: dict[TableId, tuple[list[str], list[str]]] = {}
        self._decoder = Decoder(source, self._resolve)
        self.expect(tables)
        receiver.start()

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        """The next batch, or None when none came in time."""
        chunk = self._chunk or self._receiver.get(timeout_seconds)
        if chunk is None:
            return None
        self._chunk = chunk
        before = self._known.copy()
        try:
            changes = self._decoder.decode(chunk.frames) if chunk.frames.lengths else ()
        except UnfaithfulValue:
            # The caller changes the schema and asks again: these rows are then decoded anew.
            self._known, self._late, self._revived = before, [], False
            raise
        self._chunk = None
        late, self._late = self._late, []
        if self._revived:
            self._revived = False
            self._bind()
        committed = from_microseconds(chunk.committed_us) if chunk.committed_us else None
        return ChangeBatch(
            self._source,
            changes=(*map(self._under_new_names, changes), *late),
            commits=tuple(map(lsn_position, chunk.frames.ends)),
            end=lsn_position(chunk.end),
            committed_at=committed,
            complete=chunk.complete,
            marks=chunk.marks,
        )

    def confirm(self, position: Position) -> None:
        """Tell the source that it may forget all up to `position`."""
        self._head.reached = position_lsn(position)
        self._receiver.confirm(position_lsn(position))

    def nudge(self) -> None:
        """Ask the source for its newest position at once."""
        self._receiver.nudge()

    def lag_bytes(self) -> int:
        """Bytes of log between what was received and the source's newest known position."""
        return self._receiver.lag_bytes(self._head.last)

    def close(self) -> None:
        """Let go of the connection."""
        self._receiver.stop()

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Decode rows of these tables in these schemas from now on; leave out all other tables."""
        known = self._known
        new = [schema.table for schema in tables if schema.table not in known.expected]
        if new:
            _, found = self._look(new)
            known.fingerprints.update({table: found[table].fingerprint for table in found})
        known.expected = {schema.table: schema for schema in tables}
        self._bind()

    def _bind(self) -> None:
        self._renamed = {}
        tables = self._known.expected.values()
        self._decoder.expect([self._under_old_names(schema) for schema in tables])

    # -- what a relation's rows are --

    def _resolve(self, relation: Relation) -> TableSchema | Broken | SchemaChange | None:
        known = self._known
        table = TableId(self._source, relation.schema, relation.name)
        before = known.names.get(relation.oid, table)
        known.names[relation.oid] = table
        if before != table and before in known.expected:
            return self._broken(Broken(before, f"it is called {table} now"))
        expected = known.expected.get(table)
        catalog = self._catalog()
        if expected is None:
            self._check_parts(relation)
            return None
        now = catalog.get(table)
        if now is None:
            return self._broken(Broken(table, "it is no longer at the source"))
        verdict = compare(expected, known.fingerprints.get(table, now.fingerprint), now)
        if isinstance(verdict, Broken):
            return self._rewritten(relation, expected, verdict, now)
        target = verdict.schema if verdict else expected
        return self._chosen(relation, expected, target, now)

    def _chosen(
        self, relation: Relation, expected: TableSchema, target: TableSchema, now: Discovered
    ) -> TableSchema | Broken | SchemaChange:
        """The catalog says `target`, but may be ahead of the stream: the relation decides, too."""
        known, table = self._known, expected.table
        names = [column.name for column in relation.columns]
        identity = parse(now.fingerprint)
        if identity is None or identity.oid != relation.oid:
            return self._broken(Broken(table, "it was dropped and made again"), now)
        fits_target = names == [column.name for column in target.columns]
        if not fits_target and names == [column.name for column in expected.columns]:
            known.layouts[table] = expected
            return expected
        if not fits_target and not between(names, expected, target):
            return self._broken(Broken(table, "its columns changed several times in a row"), now)
        known.fingerprints[table] = now.fingerprint
        known.layouts[table] = target
        if target == expected:
            return expected
        known.expected[table] = target
        return SchemaChange(target, faithful=True)

    def _rewritten(
        self, relation: Relation, expected: TableSchema, verdict: Broken, now: Discovered
    ) -> Broken | SchemaChange:
        """Its rows changed without events. Those that come now are good, if they look the same.

        The caller may have noticed before us, and have copied the table again: rows go on, then.
        """
        identity = parse(now.fingerprint)
        names = [column.name for column in relation.columns]
        same = with_storage(expected, now.schema) == expected
        if not (verdict.copy_again and same and identity and identity.oid == relation.oid):
            return self._broken(verdict, now)
        if names != [column.name for column in expected.columns]:
            return self._broken(verdict, now)
        self._known.fingerprints[expected.table] = now.fingerprint
        self._known.layouts[expected.table] = expected
        return SchemaChange(expected, faithful=False, why=verdict.why, fingerprint=now.fingerprint)

    def _broken(self, broken: Broken, now: Discovered | None = None) -> Broken:
        """The table breaks here. Its new copy needs the rows after this chunk: go on, if we can."""
        known, table = self._known, broken.table
        expected = known.expected.get(table)
        target = with_storage(expected, now.schema) if expected and now else None
        if broken.copy_again and now is not None and target == expected:
            known.fingerprints[table] = now.fingerprint
            self._revived = True
            return broken
        known.expected.pop(table, None)
        return broken

    def _catalog(self) -> Mapping[TableId, Discovered]:
        """The catalog as it was after the chunk at hand was received."""
        read_at, found = self._seen
        assert self._chunk is not None, "relations are resolved while a chunk is decoded"
        if read_at <= self._chunk.received_seconds:
            read_at, found = self._seen = self._look(list(self._known.expected))
        return found

    def _check_parts(self, relation: Relation) -> None:
        """A relation that nobody expects may be a partition that is gone already, with its rows."""
        _, catalog = self._seen
        parted = {}
        for table in self._known.expected:
            found = catalog.get(table)
            fingerprint = parse(found.fingerprint) if found else None
            if fingerprint and len(fingerprint.parts) > 1:
                parted[table] = fingerprint
        if not parted or any(relation.oid in f.parts for f in parted.values()):
            return
        gone = TableId(self._source, relation.schema, relation.name)
        for found in self._look([gone])[1].values():
            fingerprint = parse(found.fingerprint)
            part = fingerprint.parts.get(relation.oid) if fingerprint else None
            if fingerprint and part and (part.edge or fingerprint.publication):
                return  # a part of a table that we do not follow, or such a table itself
        for table in parted:
            why = f"{gone} may have been a partition of it, and is gone with its rows"
            self._late.append(self._broken(Broken(table, why), catalog[table]))

    # -- a rename that the caller knows before the stream shows it --

    def _under_old_names(self, schema: TableSchema) -> TableSchema:
        """`schema` with the names that rows still come with, until the next relation message."""
        layout = self._known.layouts.get(schema.table)
        if layout is None:
            return schema
        old = {column.ordinal: column.name for column in layout.columns}
        columns = tuple(replace(c, name=old.get(c.ordinal, c.name)) for c in schema.columns)
        names = {new.name: given.name for new, given in zip(schema.columns, columns, strict=True)}
        if all(new == given for new, given in names.items()):
            return schema
        self._renamed[schema.table] = (list(names.values()), list(names))
        return replace(schema, columns=columns, key=tuple(names[name] for name in schema.key))

    def _under_new_names(self, change: Change) -> Change:
        if not isinstance(change, RowChanges) or change.table not in self._renamed:
            return change
        given, wanted = self._renamed[change.table]
        if change.rows.schema.names != given:
            return change
        names = dict(zip(given, wanted, strict=True))
        before = change.before
        return replace(
            change,
            rows=change.rows.rename_columns(wanted),
            before=None if before is None else _renamed(before, names),
            unchanged={names[name]: mask for name, mask in change.unchanged.items()},
        )


def _renamed(batch: pa.RecordBatch, names: Mapping[str, str]) -> pa.RecordBatch:
    return batch.rename_columns([names[name] for name in batch.schema.names])


def between(names: Sequence[str], old: TableSchema, new: TableSchema) -> bool:
    """Whether rows with these columns can be read as `new`: since `old`, columns came or went."""
    had = {column.ordinal for column in old.columns}
    has = {column.ordinal for column in new.columns}
    given = set(names)
    for column in new.columns:
        if column.name not in given and column.ordinal in had:
            return False  # renamed, now or again
    dropped = {column.name for column in old.columns if column.ordinal not in has}
    kept = {column.name for column in old.columns} - dropped
    return not (given - {column.name for column in new.columns}) & kept
