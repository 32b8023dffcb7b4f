"""What the node says of its tables: for the model, and for the program that reads its log.

Both are read from the node itself, whose log is read with them. Nothing is changed there.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from cassandra.cluster import Session

from htapkit.model import Broken, TableId, TableSchema
from htapkit.spi import Discovered
from htapkit_cassandra import cql, marks
from htapkit_cassandra.cql import Fields
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.places import ORDERED, Places
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.truncations import Truncations
from htapkit_cassandra.types import column

OWN_KEYSPACES: Final = re.compile(r"system(_\w+)?")
_KINDS: Final = ("partition_key", "clustering", "static", "regular")
_IN_KEY: Final = ("partition_key", "clustering")
_KEPT_OPTIONS: Final = re.compile(r"(ID =|cdc =|CLUSTERING ORDER)")
_STATEMENTS: Final = re.compile(r";\s*(?=ALTER TABLE|$)")


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """A row of system_schema.columns."""

    name: str
    kind: str  # one of _KINDS
    position: int
    order: str  # clustering order
    type: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a copy depends on and the log does not show: it is kept as text beside the copy."""

    id: str  # changes when a table is dropped and made again
    truncated: Mapping[str, str]  # each node's record of the last TRUNCATE, "" = none
    columns: tuple[ColumnRow, ...]
    types: Mapping[str, Fields] = field(default_factory=dict)  # the keyspace's own
    dropped: Mapping[str, str] = field(default_factory=dict)  # columns that once were, and when
    horizon: int = 0  # of a copy over CQL (`horizons`); 0: of files, or not copied yet

    def __str__(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def describe(session: Session, settings: Settings, truncations: Truncations) -> list[Discovered]:
    """The tables that the patterns match, without the node's own."""
    columns, types, dropped = columns_of(session), types_of(session), _dropped(session)
    found = []
    rows = session.execute("SELECT keyspace_name, table_name, id, cdc FROM system_schema.tables")
    for row in sorted(rows, key=lambda r: (r.keyspace_name, r.table_name)):
        keyspace, name = row.keyspace_name, row.table_name
        own = keyspace == marks.KEYSPACE or OWN_KEYSPACES.fullmatch(keyspace)
        if own or not settings.wants(keyspace, name):
            continue
        table = TableId(settings.source, keyspace, name)
        fingerprint = Fingerprint(
            str(row.id),
            truncations.of(str(row.id)),
            columns[keyspace, name],
            types.get(keyspace, {}),
            dropped.get((keyspace, name), {}),
        )
        schema = table_schema(table, fingerprint.columns, fingerprint.types)
        problem = _problem(table, schema, fingerprint.columns, cdc=bool(row.cdc))
        found.append(Discovered(schema, str(fingerprint), problem=problem))
    return found


def graces(session: Session) -> dict[tuple[str, str], int]:
    """Of each table, for how many seconds its deletions are kept."""
    text = "SELECT keyspace_name, table_name, gc_grace_seconds FROM system_schema.tables"
    return {(r.keyspace_name, r.table_name): r.gc_grace_seconds for r in session.execute(text)}


def columns_of(session: Session) -> dict[tuple[str, str], tuple[ColumnRow, ...]]:
    """Of each table, in the order of `SELECT *`."""
    found: dict[tuple[str, str], list[ColumnRow]] = defaultdict(list)
    for row in session.execute("SELECT * FROM system_schema.columns"):
        found[row.keyspace_name, row.table_name].append(
            ColumnRow(row.column_name, row.kind, row.position, row.clustering_order, row.type)
        )
    return {table: tuple(sorted(rows, key=_select_order)) for table, rows in found.items()}


def types_of(session: Session) -> dict[str, dict[str, Fields]]:
    """Of each keyspace, its user-defined types."""
    found: dict[str, dict[str, Fields]] = defaultdict(dict)
    for row in session.execute("SELECT * FROM system_schema.types"):
        pairs = zip(row.field_names, row.field_types, strict=True)
        found[row.keyspace_name][row.type_name] = tuple(pairs)
    return found


def _dropped(session: Session) -> dict[tuple[str, str], dict[str, str]]:
    """Of each table, when its columns were dropped, also those that were added again since."""
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    # As text: of some tables of its own the node has times that the driver cannot say.
    text = (
        "SELECT keyspace_name, table_name, column_name, CAST(dropped_time AS text) AS dropped"
        " FROM system_schema.dropped_columns"
    )
    for row in session.execute(text):
        found[row.keyspace_name, row.table_name][row.column_name] = row.dropped
    return found


def horizon(fingerprint: str) -> int:
    """That of a copy, 0 = it has none."""
    return int(json.loads(fingerprint).get("horizon", 0))


def table_id(found: Discovered) -> str:
    """The id that the log has of it; another one when it is dropped and made again."""
    return str(json.loads(found.fingerprint)["id"])


def layout(found: Discovered) -> Layout:
    """What it takes to read the node's bytes of a table."""
    told = json.loads(found.fingerprint)
    columns = [ColumnRow(**column) for column in told["columns"]]
    types = {c.name: cql.parse(c.type, told["types"]) for c in columns}
    clustering = [(c.type, c.order == "desc") for c in columns if c.kind == "clustering"]
    places = Places(tuple(clustering))
    return Layout(found.schema, types, places)


def _select_order(row: ColumnRow) -> tuple[int, int, str]:
    """The order in which `SELECT *` gives the columns."""
    return _KINDS.index(row.kind), row.position, row.name


def table_schema(
    table: TableId, columns: Sequence[ColumnRow], types: Mapping[str, Fields]
) -> TableSchema:
    """A primary key is partition key and clustering columns. Pure.

    A column has no number in Cassandra, where only key columns can be renamed: its number is made
    of its name.
    """
    sharing = any(c.kind == "static" for c in columns)
    # What is static is shown without a row, too.
    filled = {"partition_key"} if sharing else {"partition_key", "clustering"}
    return TableSchema(
        table,
        tuple(
            column(
                c.name,
                c.type,
                _number(c.name),
                nullable=c.kind not in filled,
                shared=c.kind == "static",
                identifies=c.kind in _IN_KEY,
                gathered=cql.parse(c.type, types).brackets if c.kind not in _IN_KEY else "",
            )
            for c in columns
        ),
        tuple(c.name for c in columns if c.kind in _IN_KEY),
        reconciled=True,
    )


def _number(name: str) -> int:
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def _problem(
    table: TableId, schema: TableSchema, columns: Sequence[ColumnRow], *, cdc: bool
) -> str:
    if len({c.ordinal for c in schema.columns}) < len(schema.columns):
        return "two of its column names have the same checksum; rename one"
    for c in columns:
        if c.kind == "clustering" and c.type not in ORDERED:
            return f"its key has {c.name} of type {c.type}, whose order is not known"
    if not cdc:
        return f"cdc is off; ALTER TABLE {quoted_table(table)} WITH cdc = true"
    return ""


def quoted(name: str) -> str:
    """A name for CQL."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def quoted_table(table: TableId) -> str:
    """The table's name for CQL."""
    return f"{quoted(table.schema)}.{quoted(table.name)}"


def compare(schema: TableSchema, fingerprint: str, now: Discovered) -> Broken | None:
    """What became of a table since it was copied. Pure; None = nothing."""
    kept = [column.type for column in schema.columns]
    if fingerprint == now.fingerprint and kept == [column.type for column in now.schema.columns]:
        return None
    old, new = json.loads(fingerprint), json.loads(now.fingerprint)
    if old["id"] != new["id"]:
        why = "it was dropped and made again"
    elif _truncated(old["truncated"], new["truncated"]):
        why = "it was truncated, which the log does not show"
    elif old["columns"] != new["columns"]:
        why = "its columns are others now"
    elif old.get("dropped", new["dropped"]) != new["dropped"]:  # an older htapkit did not ask
        why = "a column of it was dropped and added again"
    elif old["types"] != new["types"]:
        why = "a type of its keyspace is another now"
    elif kept != [column.type for column in now.schema.columns]:
        why = "this version of htapkit keeps a column in another type"
    else:
        return None
    return Broken(schema.table, why)


def _truncated(old: Mapping[str, str] | str, new: Mapping[str, str]) -> bool:
    """A node that was not asked says nothing. A text is the only node's, of an older htapkit."""
    if isinstance(old, str):
        return any(record != old for record in new.values())
    return any(old[node] != new[node] for node in old.keys() & new.keys())


def helper_schema(session: Session) -> str:
    """The user's keyspaces as the log's reader needs them (JSON), with ids and dropped columns."""
    own: list[str] = []
    statements: list[str] = []
    for row in session.execute("SELECT keyspace_name, id FROM system_schema.tables"):
        if OWN_KEYSPACES.fullmatch(row.keyspace_name):
            own.append(str(row.id))
    for row in session.execute("SELECT keyspace_name FROM system_schema.keyspaces"):
        if not OWN_KEYSPACES.fullmatch(row.keyspace_name):
            statements += _statements(session, row.keyspace_name)
    return json.dumps({"statements": statements, "ignored": own})


def _statements(session: Session, keyspace: str) -> Iterator[str]:
    name = '"' + keyspace.replace('"', '""') + '"'
    for row in session.execute(f"DESCRIBE KEYSPACE {name} WITH INTERNALS"):
        statement = row.create_statement
        if row.type == "keyspace":
            yield (
                f"CREATE KEYSPACE {name} WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
        elif row.type == "type":
            yield statement.strip().rstrip(";")
        elif row.type == "table":
            yield from reduced(statement)


def reduced(statement: str) -> list[str]:
    """CREATE TABLE with what decoding needs, and the ALTERs behind it that record dropped columns.

    Compression, caching and the like would want classes and folders of the server. Pure.
    """
    head, found, tail = statement.partition("\n) WITH ")
    if not found:
        return [statement.strip().rstrip(";")]
    create, *alters = _STATEMENTS.split(tail.strip())
    options = [o for o in create.split("\n    AND ") if _KEPT_OPTIONS.match(o.strip())]
    kept = [a.strip() for a in alters if a.strip()]
    return [f"{head}\n) WITH {' AND '.join(options)}", *kept]
