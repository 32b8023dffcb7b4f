"""The client of a running htapkit's HTTP API: for the command line, the demo and the schedulers.

Knows nothing of stores and sources; raises ServerUnreachable or ServerRefused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from htapkit.errors import HtapkitError

CALL_SECONDS = 90.0
"""A verb on a table waits for the follower, which may be in the middle of a large transaction."""

_JOB_POLL_SECONDS = 0.2


class ServerUnreachable(HtapkitError):
    """No htapkit answers at the address."""

    sqlstate = "08001"
    retry = True


class ServerRefused(HtapkitError):
    """The server answered with an error of its own, given here in its words."""

    sqlstate = "55000"


class Client:
    """One server's API. `base` is such as http://127.0.0.1:6480."""

    def __init__(self, base: str, token: str | None = None) -> None:
        """Nothing is sent before the first call."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._base = base
        self._http = httpx.Client(
            base_url=base, headers=headers, timeout=CALL_SECONDS, trust_env=False
        )

    def __enter__(self) -> Client:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def status(self) -> Mapping[str, Any]:
        """Sources and tables."""
        return self._call("GET", "/api/v1/status")

    def ready(self) -> bool:
        """Whether every table is copied and followed."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def table_action(self, verb: str, table: str) -> Mapping[str, Any]:
        """Pause, resume or resync a table."""
        return self._call("POST", f"/api/v1/tables/{table}/{verb}")

    def detach(self, source: str) -> Mapping[str, Any]:
        """Remove what attaching created at the source, and forget the copy.

        Takes as long as a sink's brokers do: who does not wait would take the server for gone.
        """
        return self._call("POST", f"/api/v1/sources/{source}/detach", timeout_seconds=None)

    def reload(self) -> Mapping[str, Any]:
        """Have the server read its configuration again; what changed, what waits for a restart."""
        return self._call("POST", "/api/v1/reload")

    def verify(self, tables: Sequence[str]) -> Mapping[str, Any]:
        """Compare source and copy at one position; takes as long as reading both."""
        return self._call("POST", "/api/v1/verify", {"tables": list(tables)}, timeout_seconds=None)

    def tier(self, tables: Sequence[str], older_than: str | None = None) -> Mapping[str, Any]:
        """Move closed ranges of these tables (none: all that have `hot`) to the lake; the job."""
        body = {"tables": list(tables), "older_than": older_than}
        return self._call("POST", "/api/v1/tier", body)

    def compact(self, tables: Sequence[str] = (), engine: str = "") -> Mapping[str, Any]:
        """Join small files of these tables (none: of all in the lake); the job."""
        body = {"tables": list(tables), "engine": engine}
        return self._call("POST", "/api/v1/compact", body)

    def expire(self, tables: Sequence[str] = (), engine: str = "") -> Mapping[str, Any]:
        """Remove versions that nobody needs any more; the job."""
        body = {"tables": list(tables), "engine": engine}
        return self._call("POST", "/api/v1/expire", body)

    def export(
        self,
        path: str,
        *,
        sql: str | None = None,
        table: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        format: str = "parquet",  # noqa: A002 - the word for it
        source: str | None = None,
    ) -> Mapping[str, Any]:
        """Write a statement's rows, or a table's in [begin, end), to a file there; the job.

        `format` is parquet, csv or iceberg (then `path` is a table's name).
        """
        body = {"path": path, "sql": sql, "table": table, "from": begin, "to": end}
        body |= {"format": format, "source": source}
        return self._call("POST", "/api/v1/export", body)

    def export_parts(
        self,
        path: str,
        parts: str,
        *,
        table: str,
        begin: str,
        end: str,
        format: str = "parquet",  # noqa: A002 - the word for it
    ) -> Mapping[str, Any]:
        """Write a table's rows in [begin, end) to a folder, a file for each of `parts`; the job.

        `parts` is hour, day or month, `format` parquet or csv. Repeated after it was cut off, it
        goes on.
        """
        body = {"path": path, "parts": parts, "table": table, "from": begin, "to": end}
        return self._call("POST", "/api/v1/export", {**body, "format": format})

    def backup(self, folder: str) -> Mapping[str, Any]:
        """Write a backup to a new folder (an absolute path) of the server's machine; the job."""
        return self._call("POST", "/api/v1/backup", {"folder": folder})

    def backfill(
        self,
        table: str,
        *,
        begin: str | None = None,
        end: str | None = None,
        parquet: str | None = None,
    ) -> Mapping[str, Any]:
        """Read a table's rows in [begin, end) again, and correct the copy by them; the job.

        With `parquet` (a path below the server's imports.folder) they are history of the table.
        """
        body = {"table": table, "from": begin, "to": end, "parquet": parquet}
        return self._call("POST", "/api/v1/backfill", body)

    def retain(self, tables: Sequence[str] = ()) -> Mapping[str, Any]:
        """Drop what is older than `retention` of these tables (none: all that have it); the job."""
        return self._call("POST", "/api/v1/retain", {"tables": list(tables)})

    def erase(self, table: str, where: str) -> Mapping[str, Any]:
        """Purge what is left here of rows that match and are deleted at the source; the job."""
        return self._call("POST", "/api/v1/erase", {"table": table, "where": where})

    def import_table(self, table: str, as_name: str | None = None) -> Mapping[str, Any]:
        """Read an Iceberg table (`namespace.table` of the catalog) from now on; what it is."""
        return self._call("POST", "/api/v1/imports", {"table": table, "as": as_name})

    def drop_import(self, table: str) -> Mapping[str, Any]:
        """Read an imported table (`lake.schema.name`) no more."""
        return self._call("POST", f"/api/v1/imports/{table}/drop")

    def job(self, job_id: str) -> Mapping[str, Any]:
        """A job as it is now."""
        return self._call("GET", f"/api/v1/jobs/{job_id}")

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """All jobs that the server still knows, oldest first."""
        found: Sequence[Mapping[str, Any]] = self._call("GET", "/api/v1/jobs")["jobs"]
        return found

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        told: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> Mapping[str, Any]:
        """Wait for a job's end and give its result; `told` hears of it as it goes on.

        Raises ServerRefused with the job's own reason where it failed, or at the timeout.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            job = self.job(job_id)
            told(job)
            if job["state"] == "done":
                result: Mapping[str, Any] = job["result"]
                return result
            if job["state"] == "failed":
                raise ServerRefused(str(job["why"]))
            if deadline is not None and time.monotonic() > deadline:
                raise ServerRefused(f"job {job_id} has not ended yet; it goes on")
            time.sleep(_JOB_POLL_SECONDS)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = CALL_SECONDS,
    ) -> Mapping[str, Any]:
        try:
            answer = self._http.request(method, path, json=body, timeout=timeout_seconds)
        except httpx.HTTPError as error:
            raise ServerUnreachable(
                f"no htapkit answers at {self._base}; start it with `htapkit serve`"
            ) from error
        if answer.is_success:
            found: Mapping[str, Any] = answer.json()
            return found
        try:
            message = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            message = answer.text.strip() or f"HTTP {answer.status_code}"
        raise ServerRefused(message)
