"""Flight SQL's catalog commands: what there is to query, as the client's role may see it.

A catalog is a source. Schemas, tables and keys are the source's own, asked under the client's
role; the shapes of the answers are Flight SQL's.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from htapkit import __version__
from htapkit.serve.flight.clients import Client
from htapkit.serve.flight.commands import (
    GetCatalogs,
    GetDbSchemas,
    GetPrimaryKeys,
    GetSqlInfo,
    GetTables,
    GetTableTypes,
    Metadata,
)
from htapkit.serve.flight.sources import Sources
from htapkit.serve.flight.types import arrow_type
from htapkit.sqlfiles import sql

_TEXT = pa.string()


def _schema(**columns: pa.DataType) -> pa.Schema:
    """Columns by name; those that Flight SQL lets be missing are `catalog` and `schema`."""
    optional = {"catalog_name", "db_schema_name", "key_name"}
    return pa.schema([pa.field(name, kind, name in optional) for name, kind in columns.items()])


_CATALOGS = pa.schema([pa.field("catalog_name", _TEXT, nullable=False)])
_SCHEMAS = pa.schema(
    [pa.field("catalog_name", _TEXT), pa.field("db_schema_name", _TEXT, nullable=False)]
)
_TABLES = _schema(catalog_name=_TEXT, db_schema_name=_TEXT, table_name=_TEXT, table_type=_TEXT)
_TABLE_SCHEMA = pa.field("table_schema", pa.binary(), nullable=False)
_TYPES = _schema(table_type=_TEXT)
_KEYS = _schema(
    catalog_name=_TEXT,
    db_schema_name=_TEXT,
    table_name=_TEXT,
    column_name=_TEXT,
    key_sequence=pa.int32(),
    key_name=_TEXT,
)
_COLUMNS = pa.schema(
    {
        "db_schema_name": _TEXT,
        "table_name": _TEXT,
        "column_name": _TEXT,
        "type_oid": pa.int64(),
        "type_modifier": pa.int32(),
        "nullable": pa.bool_(),
    }
)
_VALUE = pa.dense_union(
    [
        pa.field("string_value", _TEXT),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(_TEXT)),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
    ]
)
_INFO = pa.schema(
    [pa.field("info_name", pa.uint32(), nullable=False), pa.field("value", _VALUE, nullable=False)]
)

TABLE_TYPES = ("FOREIGN TABLE", "MATERIALIZED VIEW", "TABLE", "VIEW")
SYSTEM_TYPES = ("SYSTEM TABLE", "SYSTEM VIEW")
_INFOS: dict[int, str | bool | int] = {
    0: "htapkit",  # FLIGHT_SQL_SERVER_NAME
    1: __version__,  # FLIGHT_SQL_SERVER_VERSION
    2: pa.__version__,  # FLIGHT_SQL_SERVER_ARROW_VERSION
    3: False,  # FLIGHT_SQL_SERVER_READ_ONLY
    4: True,  # FLIGHT_SQL_SERVER_SQL
    5: False,  # FLIGHT_SQL_SERVER_SUBSTRAIT
    8: 0,  # FLIGHT_SQL_SERVER_TRANSACTION: none
    9: False,  # FLIGHT_SQL_SERVER_CANCEL: a call is cancelled by gRPC's own means
    504: '"',  # SQL_IDENTIFIER_QUOTE_CHAR
    529: "schema",  # SQL_SCHEMA_TERM
    531: "database",  # SQL_CATALOG_TERM
}


class Catalogs:
    """Answers the catalog commands."""

    def __init__(self, names: Sequence[str], sources: Sources) -> None:
        """`names` are of the databases."""
        self._names = sorted(names)
        self._sources = sources

    def schema(self, command: Metadata) -> pa.Schema:
        """The shape of the answer."""
        match command:
            case GetCatalogs():
                return _CATALOGS
            case GetDbSchemas():
                return _SCHEMAS
            case GetTables():
                return _TABLES.append(_TABLE_SCHEMA) if command.include_schema else _TABLES
            case GetTableTypes():
                return _TYPES
            case GetPrimaryKeys():
                return _KEYS
            case GetSqlInfo():
                return _INFO

    def answer(self, command: Metadata, client: Client, database: str) -> pa.Table:
        """The rows. `database` is the call's; a command may name another."""
        match command:
            case GetCatalogs():
                return pa.table([self._names], schema=_CATALOGS)
            case GetTableTypes():
                return pa.table([sorted((*TABLE_TYPES, *SYSTEM_TYPES))], schema=_TYPES)
            case GetSqlInfo():
                return _infos(command.infos)
        name = database if command.catalog is None else command.catalog
        if name not in self._names:
            return self.schema(command).empty_table()
        match command:
            case GetDbSchemas():
                asked = [_octets(command.pattern)]
                found = self._ask(client, name, "schemas", asked, _SCHEMAS)
            case GetPrimaryKeys():
                asked = [_octets(command.schema), _octets(command.table)]
                found = self._ask(client, name, "primary_keys", asked, _KEYS)
            case GetTables():
                found = self._tables(command, client, name)
        return found

    def _tables(self, command: GetTables, client: Client, name: str) -> pa.Table:
        patterns = [_octets(command.schema_pattern), _octets(command.name_pattern)]
        kinds = ",".join(command.types or TABLE_TYPES).encode()
        found = self._ask(client, name, "tables", [*patterns, kinds], _TABLES)
        if not command.include_schema:
            return found
        columns = self._rows(client, name, "columns", patterns, _COLUMNS)
        by_table: dict[tuple[str, str], list[pa.Field]] = {}
        for schema, table, column, oid, typmod, nullable in zip(
            *(column.to_pylist() for column in columns.columns), strict=True
        ):
            field = pa.field(column, arrow_type(oid, typmod), nullable)
            by_table.setdefault((schema, table), []).append(field)
        schemas = [
            pa.schema(by_table.get(table, [])).serialize().to_pybytes()
            for table in zip(
                found["db_schema_name"].to_pylist(), found["table_name"].to_pylist(), strict=True
            )
        ]
        return found.append_column(_TABLE_SCHEMA, [pa.array(schemas, pa.binary())])

    def _ask(
        self,
        client: Client,
        name: str,
        question: str,
        values: Sequence[bytes | None],
        schema: pa.Schema,
    ) -> pa.Table:
        """The rows of `sql/flight/<question>.sql`, with the catalog's name before them."""
        rest = pa.schema(list(schema)[1:])
        table = self._rows(client, name, question, values, rest)
        names = pa.array([name] * table.num_rows, _TEXT)
        return pa.table([names, *table.columns], schema=schema)

    def _rows(
        self,
        client: Client,
        name: str,
        question: str,
        values: Sequence[bytes | None],
        schema: pa.Schema,
    ) -> pa.Table:
        with self._sources.borrow(client, name) as connection:
            batches = list(connection.rows(sql(f"flight/{question}"), values, schema))
        return pa.Table.from_batches(batches, schema)


def _octets(word: str | None) -> bytes | None:
    return None if word is None else word.encode()


def _infos(asked: Sequence[int]) -> pa.Table:
    """Facts by their number; unknown numbers are left out, as Flight SQL wants it."""
    numbers = [number for number in asked or _INFOS if number in _INFOS]
    kinds, offsets = [], []
    children: list[list[object]] = [[] for _ in _VALUE]
    for number in numbers:
        value = _INFOS[number]
        kind = 0 if isinstance(value, str) else 1 if isinstance(value, bool) else 2
        kinds.append(kind)
        offsets.append(len(children[kind]))
        children[kind].append(value)
    arrays = [pa.array(values, field.type) for values, field in zip(children, _VALUE, strict=True)]
    union = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        arrays,
        [field.name for field in _VALUE],
    )
    return pa.table([pa.array(numbers, pa.uint32()), union], schema=_INFO)
