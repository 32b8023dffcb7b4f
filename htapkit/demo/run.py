"""The course of the demo: shop, customers, mirror, five questions, and a clean end."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from htapkit.client import Client
from htapkit.demo.customers import DemoFailed, Load
from htapkit.demo.questions import compare
from htapkit.demo.screen import Screen, comparison_table
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


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for."""

    seconds: float | None
    rows_scale: float
    rate: int


@dataclass(slots=True)
class Stage:
    """Everything that runs while the demo is live."""

    source_dsn: str
    load: Load
    mirror: Stack
    client: Client
    screen: Screen
    began: float

    def look(self) -> Mapping[str, Any]:
        """Read the mirror's state and show it."""
        if not self.mirror.running:
            raise DemoFailed(f"htapkit ended by itself:\n{self.mirror.log_end()}")
        source: Mapping[str, Any] = self.client.status()["sources"][0]
        self.screen.show(source, self.load.rate())
        return source

    def watch(self, until: Callable[[Mapping[str, Any]], bool]) -> None:
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
    began = time.monotonic()
    sources = {SOURCE: {"dsn": database.dsn, "tables": ["public.*"]}}
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
    return Stage(database.dsn, load, mirror, client, screen, began)


def _play(stage: Stage, options: DemoOptions) -> bool:
    end = stage.began + options.seconds if options.seconds else None
    stage.watch(lambda source: _copied(stage, source))
    seconds = time.monotonic() - stage.began
    stage.screen.say(f"every table is copied and followed after {seconds:.1f} s; try it:")
    stage.screen.say(f"  psql postgresql://postgres@127.0.0.1:{stage.mirror.port}/{SOURCE}")
    begin = time.monotonic()
    stage.watch(lambda _: time.monotonic() > begin + LIVE_SECONDS)
    good = _ask(stage, "given by the copy", {"hot"})
    _move(stage)
    good = _ask(stage, "given by copy and lake", {"hot", "union"}) and good
    if end is None:
        stage.screen.say("Ctrl-C ends it")
    stage.watch(lambda _: end is not None and time.monotonic() >= end)
    average = stage.load.average()
    stage.screen.say(f"the shop made {average:,.0f} transactions/s on average")
    return good


def _copied(stage: Stage, source: Mapping[str, Any]) -> bool:
    refused = source["state"] == "refused"
    aside = [table for table in source["tables"] if table["state"] == "set_aside"]
    late = time.monotonic() > stage.began + COPY_SECONDS_MAX
    if refused or aside or late:
        why = source["why"] or "; ".join(f"{t['table']}: {t['why']}" for t in aside) or "too slow"
        raise DemoFailed(f"the shop could not be mirrored: {why}")
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
    equal = sum(each.equal for each in found)
    ours = sum(each.route in routes for each in found)
    stage.screen.say(f"{equal} of {len(found)} answers equal, {ours} {by}")
    return equal == ours == len(found)
