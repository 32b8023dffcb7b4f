"""Settings of a session.

Our own (`htapkit.*`), and those of the source that change what answers look like.

Values in, values out; `session` sends the queries and keeps the state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from htapkit.errors import HtapkitError
from htapkit.model import Position
from htapkit.plan.past import is_time
from htapkit.plan.plan import SessionView


class WrongSetting(HtapkitError):
    """SET htapkit.… with a value or a name that does not exist."""

    sqlstate = "22023"


class Fresh(StrEnum):
    """How fresh an answer must be."""

    STRONG = "strong"  # all that was committed before the statement began
    SESSION = "session"  # this session's own commits, and never back in time
    BOUND = "bound"  # at most so old
    ANY = "any"  # whatever there is


@dataclass(frozen=True, slots=True)
class FreshnessWanted:
    """What one statement asks of the copy.

    `head`: every commit that the source acknowledged before now counts. It is true for STRONG, and
    for SESSION after something of this session was relayed (its own commits, or reads that saw
    others'). `floors`: positions that the answer must cover.
    """

    fresh: Fresh
    head: bool
    floors: tuple[Position, ...] = ()
    bound: timedelta | None = None


class Freshness(Protocol):
    """Waits until the copy is as fresh as a statement asks. Thread-safe."""

    def wait(self, source: str, want: FreshnessWanted, deadline: float) -> None:
        """Return when it is. Raises Stale at `deadline` (time.monotonic), SourceUnavailable."""
        ...

    def readable(self, source: str, position: Position) -> bool:
        """Whether it is a position of that source; not whether it is reached."""
        ...


PARTITIONS_MAX = 1000
_ON_STALE = ("wait", "source", "error")
_ROUTES = ("auto", "hot", "lake", "union", "source", "spark")
_INTERVAL = re.compile(
    r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|sec|second|seconds|min|minute|minutes|h|hour|hours)?\s*"
)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_SHORT = {"sec": "s", "second": "s", "minute": "min", "hour": "h"}


@dataclass(frozen=True, slots=True)
class Options:
    """What SET htapkit.<name> sets. `show` gives the words that SHOW prints."""

    route: str = "auto"
    freshness: str = "session"
    on_stale: str = "source"  # after wait_timeout: wait on, ask the source, or fail
    wait_timeout: str = "5s"
    position: str = ""  # answers must cover it: carries read-your-writes between sessions
    as_of: str = ""  # a time: tables are read as the lake had them then; "" = the present
    partitions: str = "1"  # Flight SQL: at most so many tickets for one statement

    @property
    def parts_max(self) -> int:
        """In how many parts the rows of a statement are wanted at most."""
        return int(self.partitions)

    @property
    def fresh(self) -> Fresh:
        """The kind of freshness."""
        named = self.freshness in {Fresh.STRONG, Fresh.SESSION, Fresh.ANY}
        return Fresh(self.freshness) if named else Fresh.BOUND

    @property
    def bound(self) -> timedelta | None:
        """The interval, where freshness is one."""
        return seconds_of(self.freshness) if self.fresh is Fresh.BOUND else None

    @property
    def wait_seconds(self) -> float:
        """How long to wait for freshness before `on_stale` decides."""
        waited = seconds_of(self.wait_timeout)
        return waited.total_seconds() if waited is not None else 0.0

    def set(self, name: str, value: str | None) -> Options:
        """With one of them changed; None is the default. Raises WrongSetting."""
        if name not in OPTIONS:
            raise WrongSetting(
                f"htapkit.{name} cannot be set; what can be set: {', '.join(OPTIONS)}"
            )
        if value is None:
            return replace(self, **{name: getattr(Options(), name)})
        word = value.strip() if name in {"position", "as_of"} else value.strip().lower()
        _check(name, word)
        return replace(self, **{name: word})


OPTIONS: Sequence[str] = tuple(Options.__dataclass_fields__)
"""What can be set."""


def _check(name: str, word: str) -> None:
    choices: Mapping[str, Sequence[str]] = {"route": _ROUTES, "on_stale": _ON_STALE}
    if name in choices and word not in choices[name]:
        raise WrongSetting(f"htapkit.{name} = '{word}': allowed are {', '.join(choices[name])}")
    if name == "as_of" and word and not is_time(word):
        raise WrongSetting(
            f"htapkit.as_of = '{word}': expected a time such as '2026-01-31 12:00:00+00'"
        )
    if name == "partitions" and not (word.isdecimal() and 1 <= int(word) <= PARTITIONS_MAX):
        raise WrongSetting(
            f"htapkit.partitions = '{word}': expected a number from 1 to {PARTITIONS_MAX}"
        )
    if name == "wait_timeout" and seconds_of(word) is None:
        raise WrongSetting(f"htapkit.wait_timeout = '{word}': expected a time such as '200ms'")
    named = word in {Fresh.STRONG, Fresh.SESSION, Fresh.ANY}
    if name == "freshness" and not named and seconds_of(word) is None:
        raise WrongSetting(
            f"htapkit.freshness = '{word}': expected strong, session, any "
            "or a time such as '2 seconds'"
        )


def seconds_of(word: str) -> timedelta | None:
    """`200ms`, `2 seconds`, `1.5s`, `5` (seconds) as a time; None for anything else."""
    found = _INTERVAL.fullmatch(word)
    if not found:
        return None
    unit = (found[2] or "s").removesuffix("s") if found[2] not in {"us", "ms", "s"} else found[2]
    unit = _SHORT.get(unit or "s", unit or "s")
    return timedelta(seconds=float(found[1]) * _UNITS[unit])


def startup_options(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """Our settings in a start-up packet's `options` (`-c htapkit.route=hot`)."""
    found = re.findall(r"(?:-c\s*|--)htapkit\.(\w+)=((?:\\.|\S)*)", parameters.get("options", ""))
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in found}


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """The source's settings of this session, as far as they change answers."""

    values: Mapping[str, str]
    schemas: tuple[str, ...]
    role: str
    zone: tzinfo = UTC
    problem: str = ""  # why nothing may be answered locally under them; "" = it may
    statement_seconds_max: float = field(default=0.0)  # 0: no limit

    @property
    def read_committed(self) -> bool:
        """Whether the open transaction (or the next one) is READ COMMITTED."""
        names = ("default_transaction_isolation", "transaction_isolation")
        return all(self.values.get(name) == "read committed" for name in names)

    def view(
        self,
        source: str,
        route: str,
        as_of: str = "",
        *,
        clock: bool = False,
        parts: bool = False,
        alone: bool = False,
    ) -> SessionView:
        """For the planner. `clock`: the caller can ask about `LocalQuery.clocks` and `zones`."""
        zone = self.values["TimeZone"]
        view = SessionView(source, self.schemas, zone, route, as_of, clock, parts, alone)
        return replace(view, zones=clock)


_REQUIRED: Mapping[str, Sequence[str]] = {
    "IntervalStyle": ("postgres",),
    "bytea_output": ("hex",),
    "client_encoding": ("UTF8",),
    "server_encoding": ("UTF8",),
    "standard_conforming_strings": ("on",),
    "transform_null_equals": ("off",),
    "extra_float_digits": ("1", "2", "3"),
}


def read_settings(names: Sequence[bytes], row: Sequence[str | None]) -> SourceSettings:
    """From the row of sql/source/session_settings.sql."""
    found = {name.decode(): value or "" for name, value in zip(names, row, strict=True)}
    schemas = tuple(json.loads(found.pop("schemas")))
    role = found.pop("role")
    zone = zone_named(found["TimeZone"])
    problem = ""
    for name, allowed in _REQUIRED.items():
        if found[name] not in allowed:
            problem = f"{name} is {found[name]}"
    if not found["DateStyle"].startswith("ISO"):
        problem = f"DateStyle is {found['DateStyle']}"
    if zone is None:
        problem = f"TimeZone is {found['TimeZone']}"
    if found.pop("temporary") == "t":
        problem = "the session has temporary tables"
    schemas = tuple(schema for schema in schemas if not schema.startswith("pg_temp_"))
    if "pg_catalog" in schemas[1:]:
        problem = "search_path has other schemas before pg_catalog"
    limit = int(found.pop("statement_timeout_ms")) / 1000
    own = tuple(schema for schema in schemas if schema != "pg_catalog")
    return SourceSettings(found, own, role, zone or UTC, problem, limit)


@lru_cache(maxsize=64)
def zone_named(name: str) -> tzinfo | None:
    """The time zone of that name; None: it is not known here."""
    if name.upper() in {"UTC", "ETC/UTC", "GMT"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
