"""What a client sees as one database: the collaborators that the server is given. Protocols only.

Nothing here imports the hot store or the ingest loop; the command line composes them.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from htapkit.model import Position, Route
from htapkit.plan.plan import LocalQuery, Plan, SessionView
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.recent import Recent
from htapkit.serve.pgwire.settings import Freshness
from htapkit.serve.pgwire.tally import Tally
from htapkit.spi import Origin

DESCRIBED_MAX = 4096
ZONE_SECONDS = 600.0  # the source may get another edition without a word


class Read(Protocol):
    """The rows of one local statement, at one position of each source."""

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        ...

    @property
    def positions(self) -> Mapping[str, Position]:
        """The position of each source that was read."""
        ...

    @property
    def committed_at(self) -> Mapping[str, datetime | None]:
        """The newest commit in it, by each source's clock."""
        ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in bounded pieces."""
        ...

    def cancel(self) -> None:
        """Interrupt it from any thread."""
        ...

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        ...


class Opened(Read, Protocol):
    """A read, as it was opened."""

    @property
    def route(self) -> Route:
        """Of the plan, or of what was run in its place."""
        ...


class Planner(Protocol):
    """Decides where one statement goes. Cheap for texts it has seen; never raises on users' SQL."""

    def __call__(self, sql: str, session: SessionView, parameter_types: Sequence[int], /) -> Plan:
        """The plan; a parameter of type 0 is not known yet."""
        ...


class Reader(Protocol):
    """Opens a read in the hot store."""

    def __call__(
        self, query: LocalQuery, values: Sequence[object], version: int, user: str, /
    ) -> Opened:
        """`values` are those of `query.parameters`, in their order.

        `version` is of the catalog that the query was planned on; `user` is who asks, "" where all
        are one. Raises CatalogChanged (the
        tables are not those any more, at the moment that the read sees), ScanTooLarge, EngineFailed
        (neither goes to the source), QueryFailed and others.
        """
        ...


@dataclass(frozen=True, slots=True)
class Described:
    """What the source says of a statement's text: its parameters' types, its columns."""

    parameters: tuple[int, ...]
    fields: tuple[Field, ...] | None  # None: it gives no rows


class DescribedCache:
    """Answers of the source to Describe, shared by sessions. Keys hold all that they depend on."""

    def __init__(self) -> None:
        """Empty."""
        self._found: OrderedDict[tuple[object, ...], Described] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> Described | None:
        """What is known."""
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def forget(self, described: Described) -> None:
        """Ask again: a client was told something else."""
        with self._lock:
            for key in [key for key, value in self._found.items() if value is described]:
                del self._found[key]

    def put(self, key: tuple[object, ...], described: Described) -> None:
        """Remember; the oldest is forgotten at the limit."""
        with self._lock:
            self._found[key] = described
            self._found.move_to_end(key)
            while len(self._found) > DESCRIBED_MAX:
                self._found.popitem(last=False)


class ZoneEditions:
    """Whether the source's edition of a time zone is ours, by the zone's name. Thread-safe."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._found: dict[str, tuple[bool, float]] = {}

    def get(self, zone: str, now: float) -> bool | None:
        """What is known and not too old; None: the source has to be asked."""
        agrees, until = self._found.get(zone, (False, 0.0))
        return agrees if now < until else None

    def put(self, zone: str, now: float, *, agrees: bool) -> None:
        """Remember."""
        self._found[zone] = agrees, now + ZONE_SECONDS


class Lease(Protocol):
    """Reads of the parts of one statement, all of one moment; each is begun when it is wanted."""

    @property
    def parts(self) -> int:
        """How many."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The columns of each."""
        ...

    @property
    def positions(self) -> Mapping[str, Position]:
        """The position of each source, of all parts."""
        ...

    @property
    def seconds(self) -> float:
        """How long it is kept after its last use."""
        ...

    def read(self, number: int, /) -> Read:
        """The rows of a part. Raises MomentGone, PartInUse, and what a read raises."""
        ...

    def end(self, why: str, /) -> None:
        """Let go of it; `why` is what later reads are told. Safe to call twice."""
        ...


class InParts(Protocol):
    """Begins reads of the parts of a statement in the hot store."""

    def __call__(
        self, query: LocalQuery, values: Sequence[object], version: int, parts_max: int, /
    ) -> Lease | None:
        """As `Reader`; None: it can only be read whole now."""
        ...


def _no_lag() -> float | None:
    return None


def _always() -> float:
    return math.inf


@dataclass(frozen=True, slots=True)
class Database:
    """One source as clients connect to it."""

    origin: Origin
    planner: Planner
    reader: Reader
    freshness: Freshness
    catalog_version: Callable[[], int]
    lag_seconds: Callable[[], float | None] = _no_lag
    looked_at: Callable[[], float] = _always
    """When (time.monotonic) the last whole look at the source's own catalog began."""
    look: Callable[[], None] = lambda: None
    """Have another such look soon."""
    in_parts: InParts | None = None
    alone: bool = False
    """There is no PostgreSQL behind it: `origin` only stands in for one."""
    described: DescribedCache = field(default_factory=DescribedCache)
    zones: ZoneEditions = field(default_factory=ZoneEditions)
    recent: Recent = field(default_factory=Recent)
    tally: Tally = field(default_factory=Tally)
