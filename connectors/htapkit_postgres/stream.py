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
from htapkit_postgres.alignment import Shown, reads_as
from htapkit_postgres.chunk import Chunk
from htapkit_postgres.decode import Decoder
from htapkit_postgres.fingerprint import compare, parse, with_storage
from htapkit_postgres.head import PostgresHead
from htapkit_postgres.pgoutput import (
    UNIX_MICROSECONDS,
    Relation,
    from_microseconds,
    lsn_position,
    position_lsn,
)
from htapkit_postgres.receiver import Receiver


@dataclass(frozen=True, slots=True)
class Look:
    """One reading of the catalog."""

    seconds: float = 0.0  # monotonic, before it was read
    end: int = 0  # of the server's log, after it was read
    tables: Mapping[TableId, Discovered] = field(default_factory=dict)  # of those asked for

    def shown(self, table: TableId, oid: int) -> Shown | None:
        """What was there before every transaction that ends later."""
        found = self.tables.get(table)
        identity = parse(found.fingerprint) if found else None
        if found is None or identity is None or identity.oid != oid:
            return None
        return Shown.of(found.schema, identity.attributes)


@dataclass(slots=True)
class _Known:
    """What the stream believes of the tables. Copied before each chunk, to try one again."""

    expected: dict[TableId, TableSchema] = field(default_factory=dict)
    fingerprints: dict[TableId, str] = field(default_factory=dict)
    names: dict[int, TableId] = field(default_factory=dict)  # of every relation seen
    # What its last relation message was read as; none where that has no rows for us.
    layouts: dict[TableId, TableSchema] = field(default_factory=dict)
    shown: dict[TableId, Shown] = field(default_factory=dict)

    def copy(self) -> _Known:
        return _Known(
            dict(self.expected),
            dict(self.fingerprints),
            dict(self.names),
            dict(self.layouts),
            dict(self.shown),
        )

    def forget(self, table: TableId) -> None:
        """Nothing that the stream showed of a table holds for the next one of its name."""
        self.layouts.pop(table, None)
        self.shown.pop(table, None)


class PostgresStream:
    """An spi.ChangeStream; also spi.Gathers, spi.Queues and spi.Remembers."""

    def __init__(
        self,
        source: str,
        receiver: Receiver,
        look: Callable[[Sequence[TableId]], Look],
        tables: Sequence[TableSchema],
        head: PostgresHead,
    ) -> None:
        """`head` knows the newest position of the server's log, and is told of ours."""
        self._source = source
        self._receiver = receiver
        self._look = look
        self._head = head
        self._known = _Known()
        self._seen = self._before = Look()
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
            times=tuple(UNIX_MICROSECONDS + time for time in chunk.frames.times),
        )

    def confirm(self, position: Position) -> None:
        """Tell the source that it may forget all up to `position`."""
        self._head.reached = position_lsn(position)
        self._receiver.confirm(position_lsn(position))

    def nudge(self) -> None:
        """Ask the source for its newest position at once."""
        self._receiver.nudge()

    def gather(self, seconds: float) -> None:
        """Give batches no sooner than so long after one another. See spi.Gathers."""
        self._receiver.gather(seconds)

    def queued_bytes(self) -> int:
        """Bytes of messages that were received and not decoded yet."""
        return self._receiver.queued_bytes()

    def fingerprint(self, table: TableId) -> str:
        """Of a table, as it was seen last. See spi.Remembers."""
        return self._known.fingerprints.get(table, "")

    def lag_bytes(self) -> int:
        """Bytes of log between what was received and the source's newest known position."""
        return self._receiver.lag_bytes(self._head.last)

    def close(self) -> None:
        """Let go of the connection."""
        self._receiver.stop()

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Decode rows of these tables in these schemas from now on; leave out all other tables."""
        known, old = self._known, self._known.expected
        known.expected = {schema.table: schema for schema in tables}
        if known.expected != old:
            self._seen = self._look(list(known.expected))
            for table, found in self._seen.tables.items():
                if table not in old:
                    known.fingerprints[table] = found.fingerprint
        for table, schema in old.items():
            if table not in self._before.tables:  # what is expected now may be ahead of the stream
                known.shown.setdefault(table, Shown.of(schema))
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
            known.forget(table)
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
        identity = parse(now.fingerprint)
        if identity is None or identity.oid != relation.oid:
            return self._broken(Broken(table, "it was dropped and made again"), now)
        shown = known.shown.get(table) or self._before.shown(table, relation.oid)
        shown = shown or Shown.of(expected)
        catalog = Shown.of(target, identity.attributes)
        names = [column.name for column in relation.columns]
        is_old = names == [c.name for c in expected.columns] != [c.name for c in target.columns]
        schema = expected if is_old else target
        if not reads_as(relation.columns, shown, catalog, schema):
            return self._broken(Broken(table, "its columns changed several times in a row"), now)
        known.layouts[table] = schema
        known.shown[table] = shown.after(relation.columns, schema)
        if is_old:
            return expected
        known.fingerprints[table] = now.fingerprint
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
        known, table = self._known, expected.table
        identity = parse(now.fingerprint)
        names = [column.name for column in relation.columns]
        same = with_storage(expected, now.schema) == expected
        if not (verdict.copy_again and same and identity and identity.oid == relation.oid):
            return self._broken(verdict, now)
        if names != [column.name for column in expected.columns]:
            return self._broken(verdict, now)
        known.fingerprints[table] = now.fingerprint
        known.layouts[table] = expected
        known.shown[table] = Shown.of(expected)
        return SchemaChange(
            expected,
            faithful=False,
            why=verdict.why,
            fingerprint=now.fingerprint,
            doubt=verdict.doubt,
        )

    def _broken(self, broken: Broken, now: Discovered | None = None) -> Broken:
        """The table breaks here. Its new copy needs the rows after this chunk: go on, if we can."""
        known, table = self._known, broken.table
        known.forget(table)
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
        assert self._chunk is not None, "relations are resolved while a chunk is decoded"
        if self._chunk.frames.ends[0] > self._seen.end and self._before is not self._seen:
            # All its transactions ended after this reading, which tells at least as much as what
            # they had shown until then.
            self._before = self._seen
            self._known.shown.clear()
        if self._seen.seconds <= self._chunk.received_seconds:
            self._seen = self._look(list(self._known.expected))
        return self._seen.tables

    def _check_parts(self, relation: Relation) -> None:
        """A relation that nobody expects may be a partition that is gone already, with its rows."""
        catalog = self._seen.tables
        parted = {}
        for table in self._known.expected:
            found = catalog.get(table)
            fingerprint = parse(found.fingerprint) if found else None
            if fingerprint and len(fingerprint.parts) > 1:
                parted[table] = fingerprint
        if not parted or any(relation.oid in f.parts for f in parted.values()):
            return
        gone = TableId(self._source, relation.schema, relation.name)
        for found in self._look([gone]).tables.values():
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
