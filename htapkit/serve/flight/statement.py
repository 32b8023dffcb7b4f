"""What a ticket or a prepared statement stands for."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from htapkit.plan.plan import LocalQuery
from htapkit.serve.flight.clients import Client
from htapkit.serve.flight.types import parameters_schema, rows_schema
from htapkit.serve.pgwire.database import Described, Lease
from htapkit.serve.pgwire.settings import Options, SourceSettings

Values = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """What a call says of itself: the client, the database, and the `htapkit-…` headers."""

    client: Client
    name: str  # of the database
    options: Options


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the source understands it."""

    sql: str
    described: Described
    once: bool = False  # it may write: its ticket is good for one fetch
    values: Values = ()  # PostgreSQL's text of its parameters

    @property
    def schema(self) -> pa.Schema:
        """Of its rows; without columns where it gives none."""
        return rows_schema(self.described.fields or ())

    @property
    def parameters(self) -> pa.Schema:
        """Of its parameters."""
        return parameters_schema(self.described.parameters)


@dataclass(frozen=True, slots=True)
class Planned:
    """A local plan, and under what it was made."""

    query: LocalQuery
    version: int  # of the catalog
    settings: SourceSettings


@dataclass(frozen=True, slots=True)
class Part:
    """One of several tickets of a statement."""

    statement: Statement
    lease: Lease
    number: int
    planned: Planned


@dataclass(slots=True)
class Prepared:
    """A prepared statement and the parameters that were put last."""

    statement: Statement
    bound: list[Values] = field(default_factory=list)
