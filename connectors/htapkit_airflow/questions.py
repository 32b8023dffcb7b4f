"""What sensors and the trigger may ask again and again; each gives None for "not yet"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from htapkit.client import Client, ServerRefused

Answer = Mapping[str, Any]


def job(client: Client, job_id: str) -> Answer | None:
    """The end of a job: `state` done or failed, `why`, `result`.

    A job that the server does not know any more, since it was started anew, counts as failed.
    """
    try:
        found = client.job(job_id)
    except ServerRefused as error:
        return {"state": "failed", "why": str(error), "result": {}}
    if found["state"] not in {"done", "failed"}:
        return None
    return {name: found[name] for name in ("state", "why", "result")}


def ready(client: Client) -> Answer | None:
    """Every table of every source is copied and followed."""
    return {"state": "done"} if client.ready() else None


def table(client: Client, table: str, state: str) -> Answer | None:
    """One table is in a state, such as `following`: its report."""
    for source in client.status()["sources"]:
        for report in source["tables"]:
            if (report["table"], report["state"]) == (table, state):
                return {**report, "state": "done"}
    return None


QUESTIONS: Mapping[str, Callable[..., Answer | None]] = {"job": job, "ready": ready, "table": table}


def ask(client: Client, question: str, arguments: Mapping[str, Any]) -> Answer | None:
    """The answer to one of QUESTIONS, or None for not yet. Raises ServerUnreachable."""
    return QUESTIONS[question](client, **arguments)
