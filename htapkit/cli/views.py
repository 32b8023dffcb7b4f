"""The rows of schema `htapkit`: what a database's clients may know of the copy.

Only of their own database: who can log in there sees its tables' names anyway. Of statements they
see their own. Nothing here is a value of a row, and nothing is a secret.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from htapkit.config import ImportsConfig, LimitsConfig
from htapkit.hot import HotStore
from htapkit.ingest import Mirror
from htapkit.jobs import Job, JobRunner
from htapkit.model import OWN, VIEWS, Import, TableId, origin_of
from htapkit.serve.pgwire import Recent

Row = Mapping[str, Any]
IMPORTED_STATE = "imported"
_BYTES = frozenset({"memory", "disk", "disk_free", "staged", "scan", "slot_lag", "batch_bytes"})


@dataclass(frozen=True, slots=True)
class Told:
    """What the views tell of besides the mirror and the store."""

    limits: LimitsConfig
    jobs: JobRunner
    clients: Callable[[], int]
    imports: ImportsConfig
    alone: bool  # there is only one source: every job is about it


class Views:
    """The rows of one database's views."""

    def __init__(self, mirror: Mirror, store: HotStore, recent: Recent, told: Told) -> None:
        """Of the mirror's source."""
        self._mirror = mirror
        self._store = store
        self._recent = recent
        self._told = told

    def rows(self, view: str, user: str) -> pa.Table:
        """The view as `user` may see it, in its Arrow schema."""
        made: Mapping[str, Callable[[], Iterator[Row]]] = {
            "sources": self._sources,
            "tables": lambda: self._tables(user),
            "routes": lambda: (asdict(each) for each in self._recent.of(user)),
            "jobs": self._jobs,
            "limits": self._limits,
        }
        schema = VIEWS[TableId(OWN, OWN, view)].schema.arrow
        return pa.Table.from_pylist([dict(row) for row in made[view]()], schema=schema)

    def _sources(self) -> Iterator[Row]:
        report = self._mirror.report()
        yield {
            **asdict(report),
            "source": report.name,
            "tables": len(report.tables),
            "tables_following": sum(t.state == "following" for t in report.tables),
            "warnings": "; ".join(report.warnings),
        }

    def _tables(self, user: str) -> Iterator[Row]:
        for table in self._mirror.report().tables:
            _, schema, name = table.table.split(".", 2)
            yield {**asdict(table), "table_schema": schema, "table_name": name}
        for found in self._store.imports.all():
            if shown := self._imported(found, user):
                yield shown

    def _imported(self, found: Import, user: str) -> Row | None:
        """An imported table by the name that statements have for it; None: not for this user."""
        table, mirrored = found.table, origin_of(found.table)
        if mirrored is None and user and not self._told.imports.may_read(user, table):
            return None
        if mirrored is not None and mirrored.source != self._mirror.name:
            return None
        schema = mirrored.schema if mirrored is not None else table.schema
        return {
            "table_schema": f"{table.source}.{schema}",
            "table_name": table.name,
            "state": IMPORTED_STATE,
            "rows": found.pin.rows,
            "lake_rows": found.pin.rows,
            "lake_below": "",
            "why": found.why,
            "position": "",
        }

    def _jobs(self) -> Iterator[Row]:
        for job in self._told.jobs.all():
            if self._told.alone or _only_of(job, self._mirror.name):
                yield {**asdict(job), "state": job.state.value}

    def _limits(self) -> Iterator[Row]:
        used = self._used()
        for name in LimitsConfig.model_fields:
            value = getattr(self._told.limits, name)
            if isinstance(value, str):
                continue  # says what happens, not how much
            yield {
                "name": f"limits.{name}",
                "value": None if value is None else math.ceil(value),
                "used": used.get(name),
                "unit": _unit(name),
            }

    def _used(self) -> Mapping[str, int]:
        sizes = self._store.sizes()
        origin = self._mirror.source.origin
        used: dict[str, float] = {
            "memory": sizes.get("memory_bytes", 0),
            "disk": sizes["file_bytes"] + sizes["wal_bytes"],
            "staged": sizes["staged_bytes"],
            "source_connections": origin.connections if origin is not None else 0,
            "client_connections": self._told.clients(),
            "reads": sizes["reads"],
            "slot_lag": self._mirror.retained_bytes,
        }
        return {name: int(value) for name, value in used.items()}


def _only_of(job: Job, source: str) -> bool:
    return all(part.startswith(f"{source}.") for part in job.subject.split(", "))


def _unit(limit: str) -> str:
    if limit in _BYTES:
        return "bytes"
    if limit.endswith("_time"):
        return "seconds"
    return "rows" if "rows" in limit else ""
