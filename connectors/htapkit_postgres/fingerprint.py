"""What of a table's catalog entry tells that rows changed without events, and what then. Pure.

A fingerprint is JSON and holds everything that a schema does not: the table's own number, its
files, its partitions, its place in the publication, labels of enums and attributes of composites.
`compare` never guesses: what it does not know to be harmless makes a new copy, of the partitions
that it concerns where that can be told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from htapkit.model import Broken, Column, Doubt, SchemaChange, Storage, TableSchema
from htapkit.spi import Discovered
from htapkit_postgres.ranges import around

_VERSION = 2
_TEXTS = {"text", "varchar"}
_CLOCKS = {"time", "timestamp", "timestamptz"}


@dataclass(frozen=True, slots=True)
class Part:
    """A table that holds rows of ours: the table itself, or a partition below it."""

    edge: str  # the transaction that made it a partition (or a child); "" = it is neither
    file: int  # pg_relation_filenode
    mark: str  # changes with every change of its columns
    born: bool = False  # made as a partition, so it was empty when it joined
    column: int = 0  # rows of it have a value of this column from `low` on, below `high`; 0: of any
    low: str | None = None
    high: str | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """See the module."""

    oid: int
    parts: Mapping[int, Part]
    publication: str  # its membership of a publication, which is new each time; "": in none yet
    filled: Sequence[int] = ()  # columns whose old rows got a default without being written
    generated: Mapping[int, str] | None = None  # the expression of each generated column, as a hash
    labels: Mapping[int, str] | None = None  # of enums and composites, where it has such types
    attributes: int = 0  # columns that it ever had; 0: not known

    def text(self) -> str:
        """As it is kept."""
        return json.dumps({"version": _VERSION, **asdict(self)}, sort_keys=True)


def parse(text: str) -> Fingerprint | None:
    """What `text` made; None for anything else (an older form: copy again)."""
    try:
        found = json.loads(text)
        if found.pop("version") != _VERSION:
            return None
        parts = {int(oid): Part(**part) for oid, part in found.pop("parts").items()}
        generated = {int(k): v for k, v in (found.pop("generated") or {}).items()}
        labels = {int(k): v for k, v in (found.pop("labels") or {}).items()}
        return Fingerprint(**found, parts=parts, generated=generated, labels=labels)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def compare(schema: TableSchema, fingerprint: str, now: Discovered) -> SchemaChange | Broken | None:
    """What became of a table that was copied as (`schema`, `fingerprint`); None = nothing to do."""
    table = schema.table
    if now.problem:
        return Broken(table, now.problem, copy_again=False)
    old, new = parse(fingerprint), parse(now.fingerprint)
    if old is None or new is None:
        return Broken(table, "its fingerprint is of another version of htapkit")
    target = with_storage(schema, now.schema)
    why = (
        _identity(schema, target)
        or _table(old, new)
        or _values(old, new)
        or _columns(schema, target, new)
        or _passing(old, schema, target)
    )
    if why:
        return Broken(table, why)
    why, parts = _partitions(old, new)
    if why:
        return Broken(table, why, doubt=_doubt(parts, new, target) if target == schema else None)
    if target == schema and _spans(old) == _spans(new) and _labels(old) == _labels(new):
        return None
    # With the same schema, it tells the caller to keep the new fingerprint: a partition that is
    # dropped later must be known by then.
    return SchemaChange(target, faithful=True)


def _spans(fingerprint: Fingerprint) -> dict[int, tuple[int, str | None, str | None]]:
    return {oid: _span(part) for oid, part in fingerprint.parts.items()}


def _span(part: Part) -> tuple[int, str | None, str | None]:
    return part.column, part.low, part.high


def _labels(fingerprint: Fingerprint) -> set[int]:
    return set(fingerprint.labels or {})


def with_storage(old: TableSchema, new: TableSchema) -> TableSchema:
    """`new`, where columns that are kept as text stay so."""
    texts = {c.ordinal for c in old.columns if c.storage is Storage.TEXT}
    columns = tuple(
        replace(c, storage=Storage.TEXT) if c.ordinal in texts else c for c in new.columns
    )
    return replace(new, columns=columns)


def _identity(schema: TableSchema, target: TableSchema) -> str:
    def numbers(of: TableSchema) -> tuple[int, ...]:
        return tuple(c.ordinal for name in of.key for c in of.columns if c.name == name)

    before = (numbers(schema), schema.whole_rows, schema.append_only)
    after = (numbers(target), target.whole_rows, target.append_only)
    return "" if before == after else "what identifies its rows changed"


def _table(old: Fingerprint, new: Fingerprint) -> str:
    """What became of the table itself."""
    if old.oid != new.oid:
        return "it was dropped and made again"
    if old.publication and old.publication != new.publication:
        return "it left its publication for a while, and what changed meanwhile is not known"
    before, now = old.parts.get(old.oid), new.parts.get(new.oid)
    # A new file alone is VACUUM FULL, CLUSTER or TRUNCATE: rows stay, or there is an event.
    if before and now and before.file != now.file and before.mark != now.mark:
        return "it was rewritten, which may change values without events"
    return ""


def _partitions(old: Fingerprint, new: Fingerprint) -> tuple[str, list[Part]]:
    """What became of parts of the table, and of which."""
    gone = [part for oid, part in old.parts.items() if oid not in new.parts]
    came, written = [], []
    for oid, part in new.parts.items():
        before = old.parts.get(oid)
        if before is None:
            # One with another file than its first may have been unlogged before it was seen.
            came += [] if part.born and part.file in {0, oid} else [part]
        elif before.edge != part.edge:
            came += [before, part]
        elif before.file != part.file and oid != new.oid:
            written.append(part)
    whys = [
        # TRUNCATE of a partition is not sent where its root is published.
        "a partition was truncated or rewritten, and its root's log does not say which"
        if written
        else "",
        "a partition was detached or dropped, whose rows went without events" if gone else "",
        "a partition was attached, whose rows came without events" if came else "",
    ]
    return next(filter(None, whys), ""), [*gone, *came, *written]


def _doubt(parts: Sequence[Part], new: Fingerprint, schema: TableSchema) -> Doubt | None:
    """The rows that these parts had or have; None: it cannot be told, or it is all rows."""
    spans = {_span(part) for part in parts}
    columns = {column for column, _, _ in spans}
    good = [oid for oid, p in new.parts.items() if oid != new.oid and _span(p) not in spans]
    if 0 in columns or len(columns) != 1 or not good:
        return None
    return around(schema, columns.pop(), [(low, high) for _, low, high in spans])


def _values(old: Fingerprint, new: Fingerprint) -> str:
    after = new.labels or {}
    for oid, label in (old.labels or {}).items():
        if after.get(oid, label) != label:
            return (
                "a label of an enum was renamed"
                if oid > 0
                else "a composite type got or lost attributes, in all values that there are"
            )
    generated = new.generated or {}
    before = old.generated or {}
    if any(generated[number] != before[number] for number in generated.keys() & before.keys()):
        return "the expression of a generated column changed"
    return ""


def _columns(schema: TableSchema, target: TableSchema, new: Fingerprint) -> str:
    before = {column.ordinal: column for column in schema.columns}
    names = {column.name for column in schema.columns}
    for column in target.columns:
        old = before.get(column.ordinal)
        if old is None:
            if column.name in names:
                return f"another column is named {column.name} now"
            filled = column.ordinal in new.filled or column.ordinal in (new.generated or {})
            if filled or not column.nullable:
                return f"column {column.name} was added with values for the rows that were there"
        elif not _widened(old, column):
            return f"the type of column {column.name} changed"
    return ""


def _passing(old: Fingerprint, schema: TableSchema, target: TableSchema) -> str:
    """A column that came and went unseen may have had the name of one that came after it."""
    before = {column.ordinal for column in schema.columns}
    came = {column.ordinal for column in target.columns} - before
    if came and old.attributes and set(range(old.attributes + 1, max(came))) - before - came:
        return "columns came and went before others came"
    return ""


def _widened(old: Column, new: Column) -> bool:
    """Whether every value of the old type is the same value, printed the same, in the new one."""
    a, b = old.type, new.type
    if a == b or (a.oid == b.oid and a.typmod == b.typmod and a.category == b.category):
        return True
    if a.name in _TEXTS and b.name in _TEXTS:
        return b.length is None or (a.length is not None and a.length <= b.length)
    if a.name != b.name:
        return False
    if a.decimal and b.decimal:
        return a.decimal[1] == b.decimal[1] and a.decimal[0] <= b.decimal[0]
    return a.name in _CLOCKS and (b.typmod < 0 or 0 <= a.typmod <= b.typmod)
