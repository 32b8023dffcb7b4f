"""What the HTTP API may ask of the server that it runs in: a Protocol, so that it imports none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Control(Protocol):
    """What the API may ask of the server. Called from worker threads."""

    def status(self) -> Mapping[str, Any]:
        """Sources and tables, as JSON."""
        ...

    def ready(self) -> bool:
        """Every table is copied and followed."""
        ...

    def metrics(self) -> bytes:
        """Prometheus' text."""
        ...

    def table_action(self, verb: str, table: str) -> Mapping[str, Any]:
        """pause, resume or resync `source.schema.table`. ConfigError for an unknown one."""
        ...

    def detach(self, source: str) -> Mapping[str, Any]:
        """Remove slot and publication, forget the copy."""
        ...

    def reload(self) -> Mapping[str, Any]:
        """Read the configuration again. ConfigError, and nothing has changed."""
        ...

    def verify(self, tables: list[str]) -> Mapping[str, Any]:
        """Compare source and copy at one position."""
        ...

    def tier(self, tables: list[str], older_than: str | None) -> Mapping[str, Any]:
        """Queue a job that moves closed ranges to the lake; the job."""
        ...

    def compact(self, tables: list[str], engine: str) -> Mapping[str, Any]:
        """Queue a job that joins small files, here or by another engine; the job."""
        ...

    def expire(self, tables: list[str], engine: str) -> Mapping[str, Any]:
        """Queue a job that removes old versions, here or by another engine; the job."""
        ...

    def retain(self, tables: list[str]) -> Mapping[str, Any]:
        """Queue a job that drops what is too old; the job."""
        ...

    def export(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Queue a job that writes a statement's or a table's rows to a file; the job."""
        ...

    def backup(self, folder: str) -> Mapping[str, Any]:
        """Queue a job that writes a backup to a new folder of the server's machine; the job."""
        ...

    def backfill(
        self, table: str, begin: str | None, end: str | None, parquet: str | None
    ) -> Mapping[str, Any]:
        """Queue a job that reads a range of a table again, from the source or files; the job."""
        ...

    def erase(self, table: str, condition: str) -> Mapping[str, Any]:
        """Queue a job that purges what is left of deleted rows; the job."""
        ...

    def import_table(self, table: str, as_name: str | None) -> Mapping[str, Any]:
        """Read an Iceberg table of the lake's catalog from now on."""
        ...

    def drop_import(self, table: str) -> Mapping[str, Any]:
        """Read an imported table no more."""
        ...

    def job(self, job_id: str) -> Mapping[str, Any]:
        """A job as it is now."""
        ...

    def jobs(self) -> Mapping[str, Any]:
        """All jobs that are still known."""
        ...
