"""What names mean: PostgreSQL's rules, applied before DuckDB sees a word.

The local SQL never relies on DuckDB's own name rules: every relation gets a fresh alias here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from htapkit.model import (
    ARCHIVE,
    DELETED_AT,
    HISTORY,
    IMPORTED,
    OWN,
    VIEWS,
    Catalog,
    SqlType,
    TableId,
    TableSchema,
    TableState,
    TableStatus,
)
from htapkit.plan import vectors
from htapkit.plan.arms import Reference
from htapkit.plan.expr import Expr, numeric
from htapkit.plan.names import quote
from htapkit.plan.past import cut_of
from htapkit.plan.plan import LOOKED_UP, Clock, Cut, Parameter, Probe, SessionView
from htapkit.plan.types import ARRAYS, DUCKDB, NAMES, OIDS, is_utc, numeric_typmod, sql_type
from htapkit.plan.unproven import LocalOnlyError, UnprovenError

UNSURE = "\x00"
"""The name of a column that PostgreSQL names by rules that are not followed here."""


def known_name(name: str) -> str:
    """The name of a column for a client; PostgreSQL's own word where it is not known here."""
    return "?column?" if name == UNSURE else name


PARAMETER_DIGITS, PARAMETER_SCALE = 38, 12
"""Size in which a numeric parameter is bound; one that does not fit exactly goes to the source."""


class Grouped(Protocol):
    """What turns a column below GROUP BY into one above it."""

    def lift(self, expr: Expr) -> Expr:
        """The grouped form of a column of the grouped query."""


@dataclass(slots=True)
class Statement:
    """The statement being planned: what it may look at, and what it has used so far."""

    catalog: Catalog
    session: SessionView
    parameter_types: Sequence[int]
    calls: frozenset[str] = frozenset()
    access: dict[TableId, set[str]] = field(default_factory=dict)
    parameters: list[Parameter] = field(default_factory=list)
    aliases: int = 0
    references: list[Reference] = field(default_factory=list)
    cuts: Sequence[Cut] = ()
    clock: bool = False  # its calls of the clock can be asked of the source
    clocks: list[Clock] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)  # that it computes local times of
    probes: list[Probe] = field(default_factory=list)
    unseen: bool = False  # PostgreSQL must never see it, so it cannot say what its parameters are
    parts: bool = False  # the hot rows of its one table come from a view
    parsed: bool = True  # PostgreSQL has parsed its very text before it is answered

    @property
    def utc(self) -> bool:
        """Whether the session's local time is UTC."""
        return is_utc(self.session.time_zone)

    def alias(self, prefix: str) -> str:
        """A relation name that nothing else has."""
        self.aliases += 1
        return f"{prefix}{self.aliases}"

    def parameter_oid(self, number: int, place: str = "") -> int:
        """The type of the client's parameter; 0 = nobody knows.

        `place`: the type that PostgreSQL gives to one without a type where this one stands.
        """
        oid = self.parameter_types[number - 1] if number <= len(self.parameter_types) else 0
        if oid == 0 and (self.unseen or (place and self.session.alone)):
            oid = OIDS[place or "text"]
        return oid

    def parameter(self, number: int, place: str = "") -> Expr:
        """The client's parameter, as a placeholder of the local SQL."""
        oid = self.parameter_oid(number, place)
        name = NAMES.get(oid, "")
        if name not in DUCKDB and name != "numeric":
            raise UnprovenError(f"${number}", "a parameter whose type is not known here")
        typmod = numeric_typmod(PARAMETER_DIGITS, PARAMETER_SCALE) if name == "numeric" else -1
        return self.placeholder(Parameter(number, SqlType(name, oid, typmod)))

    def label(self, number: int, enum: Expr) -> Expr:
        """The client's parameter beside a value of an enum type: one of its labels."""
        if self.parameter_oid(number) != enum.oid:
            raise UnprovenError(f"${number}", f"a parameter of another type than {enum.type}")
        sql = f"CAST({self.numbered(Parameter(number, enum.sql_type))} AS VARCHAR)"
        return replace(enum, sql=sql, origin=None)

    def elements(self, number: int) -> tuple[str, str]:
        """The client's parameter as an array: its elements' type, and DuckDB's list."""
        oid = self.parameter_oid(number)
        name = ARRAYS.get(oid, "")
        if not name or not self.session.clock:
            raise UnprovenError(f"${number}", "an array of a type that is not known here")
        placeholder = self.numbered(Parameter(number, SqlType(f"_{name}", oid, -1)))
        return name, f"CAST({placeholder} AS {DUCKDB[name]}[])"

    def asked(self, sql: str, type_: str) -> Expr:
        """A constant of the clock, as a placeholder of the local SQL."""
        wanted = Clock(sql, sql_type(type_))
        if wanted not in self.clocks:
            self.clocks.append(wanted)
        return self.placeholder(Parameter(-self.clocks.index(wanted) - 1, wanted.type))

    def probe(self, wanted: Probe) -> None:
        """Note what the source has to be asked before. Raises UnprovenError."""
        if not self.session.zones:
            raise UnprovenError("what the source must be asked", "and nobody asks it here")
        if wanted not in self.probes:
            self.probes.append(wanted)

    def placeholder(self, wanted: Parameter) -> Expr:
        """The expression of a parameter; the same one is numbered once."""
        at, name = self.numbered(wanted)[1:], wanted.type.name
        if name == "numeric":
            sql = f"CAST(${at} AS DECIMAL({PARAMETER_DIGITS},{PARAMETER_SCALE}))"
            return numeric(sql, PARAMETER_DIGITS, PARAMETER_SCALE, None)
        return Expr(f"CAST(${at} AS {DUCKDB[name]})", name)

    def numbered(self, wanted: Parameter) -> str:
        """The placeholder of a parameter: `$1`."""
        if wanted not in self.parameters:
            self.parameters.append(wanted)
        return f"${self.parameters.index(wanted) + 1}"

    def reference(self, status: TableStatus, alias: str, as_of: str) -> Reference:
        """A table in FROM, of the present or as it was."""
        table = status.schema.table
        if not as_of or table.source == OWN:
            return Reference(status, alias, status.boundary)
        if table.source == ARCHIVE and not any(table in cut.boundaries for cut in self.cuts):
            raise LocalOnlyError(
                f"AS OF {as_of}: {table} is an archive, which is read as it is now; its rows have "
                f"the time of their deletion in {DELETED_AT}"
            )
        if table.source not in {self.session.source, ARCHIVE}:
            raise LocalOnlyError(f"AS OF {as_of}: {table} is not of the connected database")
        if status.schema.reconciled:
            # Rows with several ends were never in the lake, and others have ended since.
            raise LocalOnlyError(f"AS OF {as_of}: {table} is kept cell by cell and has no past")
        cut = cut_of(as_of, self.cuts, self.session)
        if table not in cut.boundaries:
            at = cut.at.isoformat(sep=" ")
            raise LocalOnlyError(f"AS OF {as_of}: {table} had no part in the lake at {at}")
        return Reference(status, alias, cut.boundaries[table], past=True)

    def from_item(self, reference: Reference) -> str:
        """A table as FROM has it, now that its span is known; forced to, always with the lake."""
        reference.lake_alone = self.session.route == "spark" and not reference.past
        forced = reference.past or self.session.route in {"union", "spark"}
        if reference.reads_lake() or (reference.boundary is not None and forced):
            reference.scan = f"htapkit lake {sum(bool(e.scan) for e in self.references) + 1}"
        if (
            self.parts
            and not reference.past
            and not reference.imported
            and reference.table.source != OWN
        ):
            reference.hot = LOOKED_UP
        self.references.append(reference)
        return reference.sql()

    def known(self, catalog: str | None, schema: str | None, name: str) -> TableStatus:
        """The table that PostgreSQL would find under this name, readable here or not."""
        source = catalog or self.session.source
        if schema == OWN and source in {OWN, self.session.source}:
            return _view(name)
        if schema is None:
            schema = self._first_schema(name)
        if source in {HISTORY, ARCHIVE}:
            schema = f"{self.session.source}.{schema}"
        table = TableId(source, schema, name)
        status = self.catalog.status(table)
        if status is None and source in IMPORTED:
            raise LocalOnlyError(f"{table} is not imported; see htapkit status", "42P01")
        if status is None and source == ARCHIVE:
            raise LocalOnlyError(
                f"{schema}.{name} has no archive; tables.{schema}.{name}.on_delete keeps one",
                "42P01",
            )
        if status is None and source != self.session.source:
            raise LocalOnlyError(
                f"{table} is not mirrored, and {source} is not the connected database"
            )
        if schema.startswith("pg_") or schema == "information_schema":
            raise UnprovenError(f"{schema}.{name}", "a system catalog")
        if status is None:
            raise UnprovenError(f"table {schema}.{name}", "not mirrored")
        return status

    def table(self, catalog: str | None, schema: str | None, name: str) -> TableStatus:
        """The same, where it can be read; noted as one that the statement reads."""
        status = self.known(catalog, schema, name)
        table = status.schema.table
        readable = status.schema
        if status.state is not TableState.FOLLOWING:
            why = f": {status.why}" if status.why else ""
            raise UnprovenError(f"table {table}", f"{status.state.value}{why}")
        if len({column.name.lower() for column in readable.columns}) < len(readable.columns):
            raise UnprovenError(f"table {table}", "has columns that differ only in case")
        self.access.setdefault(table, set())
        return status

    def _first_schema(self, name: str) -> str:
        """The schema of an unqualified name: only the first one is known to be right."""
        path = [schema for schema in self.session.search_path if schema != "pg_catalog"]
        if not path or name.startswith("pg_"):
            raise UnprovenError(f"table {name}", "no schema of the search_path is known to hold it")
        return path[0]


def _view(name: str) -> TableStatus:
    found = VIEWS.get(TableId(OWN, OWN, name))
    if found is None:
        there = ", ".join(table.name for table in VIEWS)
        raise LocalOnlyError(f"{OWN}.{name} does not exist; there are {there}", "42P01")
    return found


@dataclass(slots=True)
class Relation:
    """A FROM item: the name it has for PostgreSQL, and its columns."""

    name: str
    columns: list[tuple[str, Expr]]
    schema: str | None = None  # of a table without an alias: `schema.table.column` names it


@dataclass(slots=True)
class Scope:
    """The names that an expression may use: this query's, then those around it."""

    relations: list[Relation] = field(default_factory=list)
    visible: list[tuple[str, Expr]] = field(default_factory=list)  # what `*` and bare names mean
    parent: Scope | None = None
    grouping: Grouped | None = None
    hits: int = 0  # columns found here, and not in a query around

    def column(
        self, statement: Statement, schema: str | None, table: str | None, name: str
    ) -> Expr:
        """The column of that name, from the nearest query that has one."""
        found = self._here(schema, table, name)
        if len(found) > 1:
            raise UnprovenError(f"column {name}", "ambiguous")
        if not found:
            if self.parent is None:
                raise UnprovenError(f"column {table + '.' if table else ''}{name}", "not found")
            return self.parent.column(statement, schema, table, name)
        self.hits += 1
        used(statement, found[0])
        return self.grouping.lift(found[0]) if self.grouping else found[0]

    def _here(self, schema: str | None, table: str | None, name: str) -> list[Expr]:
        columns = self.visible
        if table is not None:
            columns = [item for relation in self._named(schema, table) for item in relation.columns]
        found = [expr for column, expr in columns if column == name]
        if not found and any(column == UNSURE for column, _ in columns):
            raise UnprovenError(f"column {name}", "a subquery has a column without a certain name")
        return found

    def _named(self, schema: str | None, table: str) -> list[Relation]:
        return [
            relation
            for relation in self.relations
            if relation.name == table and (schema is None or relation.schema == schema)
        ]

    def star(self, schema: str | None, table: str | None) -> list[tuple[str, Expr]]:
        """The columns that `*` or `table.*` stands for, in PostgreSQL's order."""
        if table is None:
            return list(self.visible)
        relations = self._named(schema, table)
        if len(relations) != 1:
            raise UnprovenError(f"{table}.*", "not one relation")
        return list(relations[0].columns)


def used(statement: Statement, expr: Expr) -> None:
    """Note that the statement reads this column of a table."""
    if expr.origin is not None:
        table, column = expr.origin
        statement.access.setdefault(table, set()).add(column)


def table_columns(schema: TableSchema, alias: str) -> list[tuple[str, Expr]]:
    """The columns of a base table under a local alias."""
    columns = []
    for column in schema.columns:
        if column.type.dimensions and column.computable:
            columns.append((column.name, vectors.column(schema.table, column, alias)))
            continue
        decimal = column.type.decimal
        known = column.type.name in DUCKDB or decimal is not None
        columns.append(
            (
                column.name,
                Expr(
                    f"{alias}.{quote(column.name)}",
                    column.type.name,
                    typmod=column.type.typmod,
                    digits=decimal[0] if decimal else 0,
                    scale=decimal[1] if decimal else 0,
                    opaque=not column.computable or not known,
                    category=column.type.category,
                    oid=column.type.oid,
                    binary=column.binary_order,
                    deterministic=column.deterministic,
                    collate=column.collation,
                    origin=(schema.table, column.name),
                ),
            )
        )
    return columns
