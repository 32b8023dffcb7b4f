"""Tasks that wait until something is true at a running htapkit.

`deferrable=True` waits in the triggerer; otherwise Airflow's modes `poke` and `reschedule`. A
server that does not answer is not there yet: the sensor's `timeout` is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseSensorOperator, Context, PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException

from htapkit.client import ServerUnreachable
from htapkit_airflow.hook import DEFAULT_CONNECTION, HtapkitHook
from htapkit_airflow.questions import Answer
from htapkit_airflow.triggers import HtapkitTrigger


class HtapkitSensor(BaseSensorOperator):
    """Asks `question` of questions.py until there is an answer."""

    question: ClassVar[str]
    template_fields: Sequence[str] = ("htapkit_conn_id",)
    ui_color = "#e0ecf8"

    def __init__(
        self,
        *,
        htapkit_conn_id: str = DEFAULT_CONNECTION,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 5.0,
        **kwargs: Any,
    ) -> None:
        """`poke_interval` is also how often the triggerer asks."""
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.htapkit_conn_id = htapkit_conn_id
        self.deferrable = deferrable

    def asked(self) -> Mapping[str, Any]:
        """The arguments of the question, from the fields of this task."""
        return {}

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once."""
        del context
        answer = self._answer()
        return PokeReturnValue(answer is not None, None if answer is None else self._end(answer))

    def execute(self, context: Context) -> Any:
        """Wait; the answer."""
        if not self.deferrable:
            return super().execute(context)
        answer = self._answer()
        if answer is not None:
            return self._end(answer)
        return self.defer(
            trigger=HtapkitTrigger(
                htapkit_conn_id=self.htapkit_conn_id,
                question=self.question,
                arguments=self.asked(),
                poll_seconds=self.poke_interval,
            ),
            method_name="resume",
            timeout=timedelta(seconds=self.timeout),
        )

    def resume(self, context: Context, event: Answer) -> Answer:
        """What a deferred sensor does with the trigger's event."""
        del context
        return self._end(event)

    def _answer(self) -> Answer | None:
        try:
            return HtapkitHook(self.htapkit_conn_id).ask(self.question, self.asked())
        except ServerUnreachable as error:
            self.log.warning("%s", error)
            return None

    def _end(self, answer: Answer) -> Answer:
        if answer["state"] != "done":
            raise AirflowException(f"{self.task_id}: {answer['why']}")
        return answer


class HtapkitReadySensor(HtapkitSensor):
    """Waits until every table of every source is copied and followed."""

    question = "ready"


class HtapkitTableSensor(HtapkitSensor):
    """Waits until one table (source.schema.table) is in a state, by default `following`."""

    question = "table"
    template_fields: Sequence[str] = ("table", "state", "htapkit_conn_id")

    def __init__(self, *, table: str, state: str = "following", **kwargs: Any) -> None:
        """The states are those of docs/operations.md."""
        super().__init__(**kwargs)
        self.table = table
        self.state = state

    def asked(self) -> Mapping[str, Any]:
        """Which table, which state."""
        return {"table": self.table, "state": self.state}


class HtapkitJobSensor(HtapkitSensor):
    """Waits for the end of a job that another task queued; fails when the job has failed."""

    question = "job"
    template_fields: Sequence[str] = ("job_id", "htapkit_conn_id")

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        """`job_id` mostly comes from an operator with `wait=False`."""
        super().__init__(**kwargs)
        self.job_id = job_id

    def asked(self) -> Mapping[str, Any]:
        """Which job."""
        return {"job_id": self.job_id}
