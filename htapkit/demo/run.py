"""The course of the demo: shop, customers, mirror, five questions, and a clean end."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from htapkit.client import Client
from htapkit.demo.beside import Beside, ask_live, live, starting
from htapkit.demo.customers import DemoFailed, Load
from htapkit.demo.options import DemoOptions
from htapkit.demo.questions import Comparison, compare
from htapkit.demo.screen import Screen, comparison_table, waits_table
from htapkit.demo.shop import build_shop
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack

VERSION = 18
SOURCE = "shop"
COPY_SECONDS_MAX = 600.0
LOOK_SECONDS = 0.25
LOG_WIDTH = 140  # of a pipe or file, which has none of its own
LIVE_SECONDS = 3.0  # of live changes before the questions are asked
MOVE_SECONDS_MAX = 300.0
OLD = "90 days"
TIMES = {"orders": "created_at", "payments": "attempted_at", "events": "occurred_at"}
HISTORY = [f"{SOURCE}.public.{table}" for table in TIMES]

SETTINGS: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    # What every source should have: a forgotten slot must not fill its disk.
    "max_slot_wal_keep_size": "2GB",
}


@dataclass(slots=True)
class Stage:
    """Everything that runs while the demo is live."""

    source_dsn: str
    load: Load
    beside: Beside | None
    mirror: Stack
    client: Client
    screen: Screen
    began: float

    def look(self) -> Sequence[Mapping[str, Any]]:
        """Read the mirror's state and show it."""
        if not self.mirror.running:
            raise DemoFailed(f"htapkit ended by itself:\n{self.mirror.log_end()}")
        sources: Sequence[Mapping[str, Any]] = self.client.status()["sources"]
        loads = {SOURCE: f"shop {self.load.rate():,.0f} transactions/s"}
        if self.beside is not None:
            loads[self.beside.source.database] = self.beside.figures()
        self.screen.show(sources, loads)
        return sources

    def watch(self, until: Callable[[Sequence[Mapping[str, Any]]], bool]) -> None:
        """Look again and again until that holds."""
        while not until(self.look()):
            time.sleep(LOOK_SECONDS)


def run(options: DemoOptions) -> int:
    """The exit code: 0 when every question was answered by the copy, and equal."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, LOG_WIDTH)
    signal.signal(signal.SIGTERM, _interrupt)
    good = True
    try:
        with ExitStack() as stack:
            try:
                stage = _set_up(stack, options, console)
                good = _play(stage, options)
            finally:
                # An impatient second Ctrl-C would leave processes behind.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except KeyboardInterrupt:
        console.print("interrupted", highlight=False)
    console.print("ended; nothing is left behind", highlight=False)
    return 0 if good else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _workspace() -> Iterator[Path]:
    """A directory that vanishes, whatever happens to us."""
    directory = Path(tempfile.mkdtemp(prefix="htapkit-demo-"))
    guard = Guard(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        guard.release()


def _set_up(stack: ExitStack, options: DemoOptions, console: Console) -> Stage:
    directory = stack.enter_context(_workspace())
    second = stack.enter_context(starting(directory, console)) if options.both else None
    with console.status("starting a private PostgreSQL"):
        server = stack.enter_context(PostgresServer(VERSION, settings=SETTINGS))
    database = Database(server, SOURCE)
    began = time.monotonic()
    with console.status("filling the shop: about a million rows"):
        build_shop(database, options.rows_scale)
    seconds = time.monotonic() - began
    console.print(
        f"PostgreSQL {VERSION} at {database.dsn}, filled in {seconds:.1f} s", highlight=False
    )
    load = stack.enter_context(Load(database.dsn, options.rate, directory))
    beside = None
    if second is not None:
        beside = stack.enter_context(live(*second, options, directory, console))
    began = time.monotonic()
    sources: dict[str, Mapping[str, object]] = {
        SOURCE: {"dsn": database.dsn, "tables": ["public.*"]}
    }
    if beside is not None:
        sources[beside.source.database] = beside.source.settings
    configuration = {
        "limits": {"memory": "1GB"},
        "tables": {
            f"{SOURCE}.public.{table}": {"time_column": column, "partition": "month"}
            for table, column in TIMES.items()
        },
    }
    mirror = stack.enter_context(Stack(directory / "htapkit", sources, configuration=configuration))
    client = stack.enter_context(mirror.client())
    screen = stack.enter_context(Screen(console))
    return Stage(database.dsn, load, beside, mirror, client, screen, began)


def _play(stage: Stage, options: DemoOptions) -> bool:
    end = stage.began + options.seconds if options.seconds else None
    stage.watch(lambda sources: _copied(stage, sources))
    seconds = time.monotonic() - stage.began
    stage.screen.say(f"every table is copied and followed after {seconds:.1f} s; try it:")
    stage.screen.say(f"  psql postgresql://postgres@127.0.0.1:{stage.mirror.port}/{SOURCE}")
    if stage.beside is not None:
        stage.screen.say(
            f"  ({stage.beside.source.title}'s table is {stage.beside.source.table} there)"
        )
    begin = time.monotonic()
    stage.watch(lambda _: time.monotonic() > begin + LIVE_SECONDS)
    good = _ask(stage, "given by the copy", {"hot"})
    if stage.beside is not None:
        good = _ask_both(stage, stage.beside) and good
    _move(stage)
    good = _ask(stage, "given by copy and lake", {"hot", "union"}) and good
    if end is None:
        stage.screen.say("Ctrl-C ends it")
    stage.watch(lambda _: end is not None and time.monotonic() >= end)
    average = stage.load.average()
    stage.screen.say(f"the shop made {average:,.0f} transactions/s on average")
    return good


def _copied(stage: Stage, sources: Sequence[Mapping[str, Any]]) -> bool:
    late = time.monotonic() > stage.began + COPY_SECONDS_MAX
    for source in sources:
        aside = [table for table in source["tables"] if table["state"] == "set_aside"]
        if source["state"] == "refused" or aside or late:
            why = source["why"] or "; ".join(f"{t['table']}: {t['why']}" for t in aside)
            raise DemoFailed(f"{source['name']} could not be mirrored: {why or 'too slow'}")
    return stage.client.ready()


def _move(stage: Stage) -> None:
    """Move history to the lake while the customers go on."""
    began = time.monotonic()
    job = stage.client.tier(HISTORY, OLD)
    result = stage.client.wait(job["id"], timeout_seconds=MOVE_SECONDS_MAX)
    moved = sum(row["rows"] for row in result["tables"])
    seconds = time.monotonic() - began
    stage.screen.say(
        f"{moved:,} rows older than {OLD} are in Iceberg tables now ({seconds:.1f} s, "
        "the shop went on); the same questions again:"
    )


def _ask(stage: Stage, by: str, routes: Set[str]) -> bool:
    """Ask while the customers hold their breath; whether all are equal and came by one of these."""
    stage.load.pause()
    try:
        found = list(compare(stage.source_dsn, stage.mirror.dsn(SOURCE)))
    finally:
        stage.load.resume()
    stage.screen.console.print(comparison_table(found, routes))
    return _judge(stage, found, by, routes)


def _ask_both(stage: Stage, beside: Beside) -> bool:
    """Over both sources: first while everybody works, then compared while nobody writes."""
    dsn = stage.mirror.dsn(SOURCE)
    title = beside.source.title
    beside.load.latencies.restart()
    begin = time.monotonic()
    stage.watch(lambda _: time.monotonic() > begin + LIVE_SECONDS)
    beside.measure("while nobody asks the copy")
    answered = ask_live(beside, dsn, stage.look, LIVE_SECONDS)
    beside.measure("while the copy is asked")
    stage.screen.console.print(waits_table(f"{title}'s own clients", beside.measured))
    stage.screen.say(f"meanwhile the copy gave {answered} answers, as fresh as the sources were")
    stage.screen.say("now nobody writes, and answers are compared with the sources' own:")
    stage.load.pause()
    beside.load.pause()
    try:
        found = list(beside.compare(stage.source_dsn, dsn))
    finally:
        beside.load.resume()
        stage.load.resume()
    stage.screen.console.print(comparison_table(found, {"hot"}, title))
    return _judge(stage, found, f"given by the copy, over {title} and PostgreSQL", {"hot"})


def _judge(stage: Stage, found: Sequence[Comparison], by: str, routes: Set[str]) -> bool:
    equal = sum(each.equal for each in found)
    ours = sum(each.route in routes for each in found)
    stage.screen.say(f"{equal} of {len(found)} answers equal, {ours} {by}")
    return equal == ours == len(found)
