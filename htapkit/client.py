"""The client of a running htapkit's HTTP API: for the command line, the demo and the schedulers.

Knows nothing of stores and sources; raises ServerUnreachable or ServerRefused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from htapkit.errors import HtapkitError

CALL_SECONDS = 90.0
"""A verb on a table waits for the follower, which may be in the middle of a large transaction."""


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
        """Remove what attaching created at the source, and forget the copy."""
        return self._call("POST", f"/api/v1/sources/{source}/detach")

    def verify(self, tables: Sequence[str]) -> Mapping[str, Any]:
        """Compare source and copy at one position; takes as long as reading both."""
        return self._call("POST", "/api/v1/verify", {"tables": list(tables)}, timeout_seconds=None)

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
