"""Tasks that ask a running htapkit to do something, and wait until it is done.

The server does the work; a task only asks and waits, so that its worker needs neither rows nor
memory. All of them may be run again: the server starts from what is already done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, Context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from htapkit_airflow.assets import LAKE, lake_asset
from htapkit_airflow.hook import DEFAULT_CONNECTION, HtapkitHook
from htapkit_airflow.triggers import HtapkitTrigger

_JOB = "htapkit_job"


class HtapkitJobOperator(BaseOperator):
    """Queues a job by its verb, waits for its end, and gives its result.

    `arguments` are those of the client's method of that name. `deferrable` waits in the triggerer;
    `wait=False` does not wait and gives the job's id, for HtapkitJobSensor. A job that fails, is
    unknown after a restart of the server, or does not end within `timeout_seconds` fails the task
    with the server's own reason; a retry queues a new one. A retry after the worker died takes up
    the job that goes on, so that its result, and what it tells the assets, is not lost.
    """

    verb: str = ""
    template_fields: Sequence[str] = ("arguments", "htapkit_conn_id")
    ui_color = "#cfe8e0"

    def __init__(
        self,
        *,
        verb: str = "",
        arguments: Mapping[str, Any] | None = None,
        htapkit_conn_id: str = DEFAULT_CONNECTION,
        wait: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_seconds: float = 5.0,
        silence_seconds: float = 600.0,
        timeout_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        """`silence_seconds`: how long a deferred task bears that the server does not answer."""
        super().__init__(**kwargs)
        self.verb = verb or self.verb
        if not self.verb:
            raise ValueError(f"{self.task_id}: give the verb of the job")
        self.arguments = dict(arguments or {})
        self.htapkit_conn_id = htapkit_conn_id
        self.wait = wait
        self.deferrable = deferrable
        self.poll_seconds = poll_seconds
        self.silence_seconds = silence_seconds
        self.timeout_seconds = timeout_seconds

    def asked(self, now: datetime) -> Mapping[str, Any]:
        """The arguments of the verb, from the fields of this task."""
        del now
        return self.arguments

    def written(self, result: Mapping[str, Any]) -> Iterator[tuple[Asset, Mapping[str, Any]]]:
        """The assets that a job changed, with what is told of each."""
        del result
        yield from ()

    def execute(self, context: Context) -> Any:
        """Queue it; the job's result, or its id with `wait=False`."""
        hook = HtapkitHook(self.htapkit_conn_id)
        if not self.wait:
            return self._queue(hook)
        job_id = self._former(context, hook) or self._queue(hook)
        context["task_state_store"].set(_JOB, job_id)
        if not self.deferrable:
            return self._end(context, hook.wait(job_id, self.timeout_seconds, self._told()))
        # What is done in a moment is not worth a deferral.
        answer = hook.ask("job", {"job_id": job_id}, within_seconds=self.poll_seconds)
        if answer is not None:
            return self.resume(context, answer)
        limit = self.timeout_seconds
        return self.defer(
            trigger=HtapkitTrigger(
                htapkit_conn_id=self.htapkit_conn_id,
                question="job",
                arguments={"job_id": job_id},
                poll_seconds=self.poll_seconds,
                silence_seconds=self.silence_seconds,
            ),
            method_name="resume",
            timeout=None if limit is None else timedelta(seconds=limit),
        )

    def resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        """What a deferred task does with the trigger's event."""
        if event["state"] != "done":
            raise AirflowException(f"{self.verb}: {event['why']}")
        return self._end(context, event["result"])

    def _queue(self, hook: HtapkitHook) -> str:
        job_id = str(hook.queue(self.verb, self.asked(datetime.now(UTC)))["id"])
        self.log.info("%s: job %s", self.verb, job_id)
        return job_id

    def _former(self, context: Context, hook: HtapkitHook) -> str | None:
        """The job that an earlier try left, unless it has failed or is unknown."""
        job_id = context["task_state_store"].get(_JOB)
        if job_id is None:
            return None
        answer = hook.ask("job", {"job_id": job_id})
        if answer is not None and answer["state"] != "done":
            return None
        self.log.info("%s: taking up job %s of an earlier try", self.verb, job_id)
        return str(job_id)

    def _told(self) -> Callable[[Mapping[str, Any]], None]:
        steps: list[str] = []

        def told(job: Mapping[str, Any]) -> None:
            if job["step"] not in {"", *steps[-1:]}:
                steps.append(job["step"])
                self.log.info("%s", job["step"])

        return told

    def _end(self, context: Context, result: Mapping[str, Any]) -> Mapping[str, Any]:
        self.log.info("%s: %s", self.verb, result)
        for asset, extra in self.written(result):
            if asset in self.outlets:
                context["outlet_events"][asset].extra.update(extra)
            elif LAKE in self.outlets:
                context["outlet_events"][LAKE].add(asset, extra=dict(extra))
        context["task_state_store"].delete(_JOB)
        return result


class HtapkitTierOperator(HtapkitJobOperator):
    """Moves closed time ranges to the lake; gives `tables`, each with `rows`, `folded`, `below`.

    `tables` (source.schema.table; none: all that have `hot`) are moved up to where their own `hot`
    says, up to `older_than` ago (`7 days`), or up to the moment `before`. Only whole periods move,
    and nothing moves twice, so a run that is repeated does nothing. Each table whose history
    changed becomes an event of LAKE, with its figures.
    """

    verb = "tier"
    template_fields: Sequence[str] = ("tables", "older_than", "before", "htapkit_conn_id")

    def __init__(
        self,
        *,
        tables: Sequence[str] | str = (),
        older_than: str | None = None,
        before: datetime | str | None = None,
        **kwargs: Any,
    ) -> None:
        """`before` is a moment with its time zone, or its ISO 8601 text."""
        super().__init__(**{"outlets": [LAKE], **kwargs})
        self.tables = tables
        self.older_than = older_than
        self.before = before

    def asked(self, now: datetime) -> Mapping[str, Any]:
        """The server takes an age; a moment becomes one here. Raises ValueError for both."""
        age = self.older_than or None
        if self.before:
            if age:
                raise ValueError(f"{self.task_id}: give older_than or before, not both")
            age = f"{(now - _moment(self.before)).total_seconds():.3f} s"
        return {"tables": names(self.tables), "older_than": age}

    def written(self, result: Mapping[str, Any]) -> Iterator[tuple[Asset, Mapping[str, Any]]]:
        """Every table of which rows were moved or patches folded."""
        for moved in result["tables"]:
            if moved["rows"] or moved["folded"]:
                yield lake_asset(moved["table"]), moved


class HtapkitTablesOperator(HtapkitJobOperator):
    """A job for some `tables` (none: all that it can be for); gives `tables` with what was done."""

    template_fields: Sequence[str] = ("tables", "htapkit_conn_id")

    def __init__(self, *, tables: Sequence[str] | str = (), **kwargs: Any) -> None:
        """`tables` are names (source.schema.table), or one text of them with commas."""
        super().__init__(**kwargs)
        self.tables = tables

    def asked(self, now: datetime) -> Mapping[str, Any]:
        """Their names."""
        del now
        return {"tables": names(self.tables)}


class HtapkitEngineOperator(HtapkitTablesOperator):
    """The same, by the server itself or by another `engine` in its configuration (`spark`)."""

    template_fields: Sequence[str] = (*HtapkitTablesOperator.template_fields, "engine")

    def __init__(self, *, engine: str = "", **kwargs: Any) -> None:
        """`engine` "": the server itself."""
        super().__init__(**kwargs)
        self.engine = engine

    def asked(self, now: datetime) -> Mapping[str, Any]:
        """The tables, and whose work it is."""
        return {**super().asked(now), "engine": self.engine}


class HtapkitCompactOperator(HtapkitEngineOperator):
    """Joins small files of the lake. No row changes."""

    verb = "compact"


class HtapkitRetainOperator(HtapkitTablesOperator):
    """Drops what is older than the tables' `retention` from the copy."""

    verb = "retain"


class HtapkitExpireOperator(HtapkitEngineOperator):
    """Removes versions of the lake that nobody needs any more."""

    verb = "expire"


class HtapkitExportOperator(HtapkitJobOperator):
    """Writes rows to `path` below the server's exports.folder; gives `rows`, `bytes`, `position`.

    Rows of a statement (`sql`, of the database `source`), or of a `table`, by its time column from
    `begin` on and before `end`. `format` is parquet, csv, or iceberg (then `path` is a table's
    name). A file takes the place of an older one as a whole: with a path of its own for each data
    interval, a task may be run again.
    """

    verb = "export"
    template_fields: Sequence[str] = (
        "path",
        "sql",
        "table",
        "begin",
        "end",
        "format",
        "source",
        "htapkit_conn_id",
    )

    def __init__(
        self,
        *,
        path: str,
        sql: str | None = None,
        table: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        format: str = "parquet",  # noqa: A002 - the word for it
        source: str | None = None,
        **kwargs: Any,
    ) -> None:
        """`begin` and `end` are ISO 8601 texts; without a zone they are UTC."""
        super().__init__(**kwargs)
        self.path = path
        self.sql = sql
        self.table = table
        self.begin = begin
        self.end = end
        self.format = format
        self.source = source

    def asked(self, now: datetime) -> Mapping[str, Any]:
        """A template that rendered to nothing is as if it were not there."""
        del now
        return {
            "path": self.path,
            "sql": self.sql or None,
            "table": self.table or None,
            "begin": self.begin or None,
            "end": self.end or None,
            "format": self.format,
            "source": self.source or None,
        }


class HtapkitBackfillOperator(HtapkitJobOperator):
    """Reads a time range of a `table` again from the source, and corrects the copy by it.

    Gives `rows`, `missing`, `different` and `surplus`. With `parquet`, a path below the server's
    `imports.folder`, the rows come from files and become the table's history: gives `added`,
    `replaced`, `at_source`, `rejected` and others. What is already right stays, so a task may be
    run again.
    """

    verb = "backfill"
    template_fields: Sequence[str] = ("table", "begin", "end", "parquet", "htapkit_conn_id")

    def __init__(
        self,
        *,
        table: str,
        begin: str | None = None,
        end: str | None = None,
        parquet: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Rows from `begin` on and before `end`, ISO 8601 texts; none: without a bound."""
        super().__init__(**kwargs)
        self.table = table
        self.begin = begin
        self.end = end
        self.parquet = parquet

    def asked(self, now: datetime) -> Mapping[str, Any]:
        """The range, and the files where there are any."""
        del now
        asked = {"table": self.table, "begin": self.begin or None, "end": self.end or None}
        return {**asked, "parquet": self.parquet} if self.parquet else asked


class HtapkitVerifyOperator(BaseOperator):
    """Compares source and copy at one position, and fails where they differ.

    `tables` (none: all) are compared one after the other; the result has `equal`, `position`, what
    was found of each, and what was not compared. A difference is final, it is not tried again;
    `htapkit resync` mends it. So is a history that is damaged; a backup has it.
    """

    template_fields: Sequence[str] = ("tables", "htapkit_conn_id")
    ui_color = "#cfe8e0"

    def __init__(
        self,
        *,
        tables: Sequence[str] | str = (),
        htapkit_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        """It waits in its worker: the server answers when it has read both."""
        super().__init__(**kwargs)
        self.tables = tables
        self.htapkit_conn_id = htapkit_conn_id

    def execute(self, context: Context) -> Mapping[str, Any]:
        """Compare; the server's report."""
        del context
        found = HtapkitHook(self.htapkit_conn_id).verify(names(self.tables))
        tables = [*found["tables"], *found.get("not_compared", ())]
        for table in tables:
            self.log.info("%s", table)
        if not found["equal"]:
            raise AirflowFailException(f"source and copy differ, or a history is damaged: {tables}")
        return found


def names(tables: Sequence[str] | str) -> list[str]:
    """Names of tables, from a list or from one text with commas."""
    given = tables.split(",") if isinstance(tables, str) else tables
    return [name.strip() for name in given if name.strip()]


def _moment(given: datetime | str) -> datetime:
    moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    if moment.tzinfo is None:
        raise ValueError(f"'{given}' has no time zone; give it as 2026-01-31T00:00:00+00:00")
    return moment
