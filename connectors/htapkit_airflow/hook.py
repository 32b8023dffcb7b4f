"""The way from an Airflow connection to a running htapkit's HTTP API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import BaseHook, Connection

from htapkit.client import Client
from htapkit.errors import HtapkitError
from htapkit_airflow.questions import Answer, ask

DEFAULT_CONNECTION = "htapkit_default"
_HOST = "127.0.0.1"
_PORT = 6480
_ASK_SECONDS = 0.2
_TRUE = ("true", "1", "yes", "on")


def client_of(connection: Connection) -> Client:
    """The API at the address of an Airflow connection. Nothing is sent yet."""
    host = connection.host or _HOST
    shown = f"[{host}]" if ":" in host else host
    tls = str(connection.extra_dejson.get("tls", "")).lower() in _TRUE
    scheme = "https" if tls else "http"
    return Client(f"{scheme}://{shown}:{connection.port or _PORT}", connection.password or None)


class HtapkitHook(BaseHook):
    """One htapkit. Every call raises ServerUnreachable or ServerRefused, as its client does."""

    conn_name_attr = "htapkit_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "htapkit"
    hook_name = "htapkit"

    def __init__(self, htapkit_conn_id: str = DEFAULT_CONNECTION) -> None:
        """Nothing is looked up before the first call."""
        super().__init__()
        self.htapkit_conn_id = htapkit_conn_id

    def get_conn(self) -> Client:
        """A client, to be closed by the caller: `with hook.get_conn() as client`."""
        return client_of(self.get_connection(self.htapkit_conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """What the form's button shows."""
        try:
            status = self.status()
        except HtapkitError as error:
            return False, str(error)
        found = ", ".join(f"{s['name']} is {s['state']}" for s in status["sources"])
        return True, f"htapkit answers: {found}"

    def status(self) -> Mapping[str, Any]:
        """Sources and tables."""
        with self.get_conn() as client:
            return client.status()

    def tables(self, state: str = "following") -> Sequence[str]:
        """The names (source.schema.table) of all tables in a state, in order."""
        sources = self.status()["sources"]
        return sorted(t["table"] for s in sources for t in s["tables"] if t["state"] == state)

    def verify(self, tables: Sequence[str]) -> Mapping[str, Any]:
        """Compare source and copy; takes as long as reading both."""
        with self.get_conn() as client:
            return client.verify(tables)

    def queue(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Queue a job by the name of its verb, such as `tier`; the job.

        Raises ValueError where this htapkit's client does not know the verb.
        """
        with self.get_conn() as client:
            method = getattr(client, verb, None)
            if verb.startswith("_") or not callable(method):
                raise ValueError(f"this htapkit knows no verb '{verb}'")
            job: Mapping[str, Any] = method(**arguments)
            return job

    def ask(
        self, question: str, arguments: Mapping[str, Any], *, within_seconds: float = 0.0
    ) -> Answer | None:
        """The answer to one of `questions`, or None where there is none yet by then."""
        end = time.monotonic() + within_seconds
        with self.get_conn() as client:
            while (answer := ask(client, question, arguments)) is None:
                if time.monotonic() >= end:
                    return None
                time.sleep(_ASK_SECONDS)
            return answer

    def wait(
        self,
        job_id: str,
        timeout_seconds: float | None = None,
        told: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> Mapping[str, Any]:
        """Wait for a job's end; its result."""
        with self.get_conn() as client:
            return client.wait(job_id, timeout_seconds=timeout_seconds, told=told)
