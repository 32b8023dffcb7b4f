"""Waiting without a worker: Airflow's triggerer asks, and holds thousands of such waits at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from htapkit.client import Client, ServerUnreachable
from htapkit_airflow.hook import HtapkitHook, client_of
from htapkit_airflow.questions import Answer, ask


class HtapkitTrigger(BaseTrigger):
    """Asks one of `questions` until there is an answer, which becomes the event.

    While the server does not answer it goes on for `silence_seconds` (None: for ever); then the
    event has the state `unreachable`.
    """

    def __init__(
        self,
        *,
        htapkit_conn_id: str,
        question: str,
        arguments: Mapping[str, Any],
        poll_seconds: float = 5.0,
        silence_seconds: float | None = None,
    ) -> None:
        """All of it is stored in Airflow's database; secrets stay in the connection."""
        super().__init__()
        self.htapkit_conn_id = htapkit_conn_id
        self.question = question
        self.arguments = dict(arguments)
        self.poll_seconds = poll_seconds
        self.silence_seconds = silence_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it is made of anew."""
        return (
            "htapkit_airflow.triggers.HtapkitTrigger",
            {
                "htapkit_conn_id": self.htapkit_conn_id,
                "question": self.question,
                "arguments": self.arguments,
                "poll_seconds": self.poll_seconds,
                "silence_seconds": self.silence_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: the answer."""
        connection = await HtapkitHook.aget_connection(self.htapkit_conn_id)
        with client_of(connection) as client:
            yield TriggerEvent(dict(await self._answer(client)))

    async def _answer(self, client: Client) -> Answer:
        heard = time.monotonic()
        while True:
            # First of all: an answer at once may reach Airflow's scheduler before it has heard
            # that the task was deferred, and it would then call the task failed.
            await asyncio.sleep(self.poll_seconds)
            try:
                answer = await asyncio.to_thread(ask, client, self.question, self.arguments)
                heard = time.monotonic()
            except ServerUnreachable as error:
                self.log.warning("%s", error)
                answer = None
                silent = time.monotonic() - heard
                if self.silence_seconds is not None and silent > self.silence_seconds:
                    return {"state": "unreachable", "why": str(error)}
            if answer is not None:
                return answer
