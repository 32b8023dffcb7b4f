"""kill -9 of htapkit, of the log's reader and of the node, again and again, under load.

In the end every table is what `SELECT` at ALL gives. Between kills the stored position moves, or
the test says nothing.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path

import httpx
import psutil
import pytest
from cassandra.cluster import Session

from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.model import Position
from htapkit.testing.stack import Stack
from htapkit_cassandra.positions import LogOrder
from tests.cassandra.histories import SHOWN, Histories, selected
from tests.fix_cassandra import SECONDS, Keyspace, connected, is_reader, wait_for
from tests.fix_kills import ask_for_copy

pytestmark = pytest.mark.cassandra
# Reached with any source; those of ranges and of parts of a transaction are not with this one.
POINTS = (
    "apply.before",
    "copy.snapshot",
    "apply.written",
    "apply.committed",
    "copy.part",
    "copy.loaded",
    "follow.opened",
    "apply.confirmed",
    "copy.replayed",
    "apply.written",
    "apply.committed",
    "copy.swapped",
)
NODE_EVERY = 16
READER_EVERY = 5
STILL_MAX = 3  # starts in a row from the same position
KILLS = "HTAPKIT_CASSANDRA_KILLS"  # how many, however long that takes
KILLS_WANTED = 100
BUSY_SECONDS = 600.0  # a machine that is too slow for all of them in this time makes fewer,
KILLS_MIN = 12  # but not less, with one of each kind in them
READY_SECONDS = 3 * SECONDS  # perhaps all tables are to be copied, one after the other
SETTLE_SECONDS = 60.0  # what lives for a second ends meanwhile
LAST = 500  # statements, after the last kill and the last copy


class Killing:
    """One htapkit over a keyspace that is written all the time, and who was killed how often."""

    def __init__(self, keyspace: Keyspace, folder: Path, seed: int) -> None:
        """Nothing runs yet."""
        self.keyspace = keyspace
        self.rolled = random.Random(seed)
        self.histories = Histories(keyspace, seed)
        settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
        sources = {"events": {"connector": "cassandra", **settings}}
        self.stack = Stack(folder, sources, preloaded=True)
        self.died: Counter[str] = Counter()
        self.moved = 0
        self._still = 0
        self._stored = ""

    def kill(self, number: int) -> None:
        """Whose turn it is."""
        if number % NODE_EVERY == NODE_EVERY // 2:
            self._kill_node()
        elif number % READER_EVERY == READER_EVERY - 1:
            self._kill_reader()
        else:
            self._kill_htapkit(number)

    def _kill_htapkit(self, number: int) -> None:
        """At the next place, at any moment, or, after deaths that came too early, once it moved."""
        self._let_die()
        died, left = self.died, sum(self.died.values())
        point = POINTS[number % len(POINTS)]
        if self._still >= STILL_MAX - 1:
            self.stack.start()
            self._wait_moved()
            self.stack.wait_ended(self.rolled.random(), kill=True)
            died["htapkit, moved"] += 1
        elif number % 6 == 3:
            self.stack.start()
            self.stack.wait_ended(self.rolled.random() * 8, kill=True)
            died["htapkit, anywhere"] += 1
        else:
            times = self.rolled.randrange(1, 6) if point.startswith("apply.") else 1
            self.stack.start({"HTAPKIT_FAILPOINT": f"{point}:{times}"})
            if point.startswith("copy."):
                table = self.rolled.choice(list(SHOWN))
                ask_for_copy(self.stack, f"events.{self.keyspace.name}.{table}", SECONDS)
            code = self.stack.wait_ended(SECONDS)
            assert code == -signal.SIGKILL, f"{point}: ended with {code}: {self.stack.log_end()}"
            died[point] += 1
        assert sum(died.values()) == left + 1
        self._look()

    def _let_die(self) -> None:
        """One that was left running by the kills of others."""
        if self.stack.running:
            self.stack.kill()
            self.died["htapkit, anywhere"] += 1
            self._look()

    def _kill_reader(self) -> None:
        """Whichever Java program runs, of a log or of a copy; then the copy goes on."""
        self._run()
        process = wait_for(self._reader)
        self._moments(self.rolled.random())
        with suppress(psutil.NoSuchProcess):
            process.kill()
        self.died["reader"] += 1
        self._wait_moved()

    def _reader(self) -> psutil.Process | None:
        found = psutil.Process(self.stack.pid).children(recursive=True)
        return next(filter(is_reader, found), None)

    def _kill_node(self) -> None:
        """Htapkit runs on, and goes on by itself; the histories, too."""
        self._run()
        self._wait_moved()
        node = self.keyspace.node
        self._moments(self.rolled.random())
        node.kill()
        self.died["node"] += 1
        node.start()
        self.histories.go_on()
        self._wait_moved()

    def _run(self) -> None:
        if not self.stack.running:
            self.stack.start()

    def _moments(self, seconds: float) -> None:
        """Let some moments pass, in which it may not end."""
        deadline = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() > deadline or None)
        assert self.stack.running, self.stack.log_end()

    def _position(self) -> str:
        try:
            with self.stack.client() as client:
                return str(client.status()["sources"][0]["position"] or "")
        except (ServerRefused, ServerUnreachable, OSError):
            return ""

    def _wait_moved(self) -> None:
        """Until what is stored is further than now."""
        before = wait_for(lambda: self._position() or None)

        def moved() -> bool | None:
            assert self.stack.running, self.stack.log_end()
            return _places(self._position() or before) > _places(before) or None

        wait_for(moved)

    def _look(self) -> None:
        """Where the last stream began, which is what the file said."""
        log = self.stack.log_path.read_text(errors="replace")
        began = re.findall(r'event=streaming .*?position="(\{.*\})"', log)
        if not began:
            return  # nothing was stored yet
        found = began[-1].replace('\\"', '"')
        if self._stored:
            assert LogOrder().covers(Position(found), Position(self._stored)), (
                f"back: {self._stored} to {found}"
            )
        moved = not self._stored or _places(found) > _places(self._stored)
        self.moved += moved
        self._still = 0 if moved else self._still + 1
        assert self._still <= STILL_MAX, f"no progress over {self._still} kills at {found}"
        self._stored = found

    def begin(self) -> None:
        """Write; then all tables are copied once, and followed."""
        self.histories.start()
        self.histories.go_on()
        self.stack.start()
        self.stack.wait_ready(READY_SECONDS)

    def equals(self) -> None:
        """All that is short-lived is over at some time; then, and now, both sides are equal."""
        self._run()
        self.stack.wait_ready(READY_SECONDS)
        copies = self._copies()
        self.histories.go_on(LAST)  # and only the log brings it
        self.histories.end()
        assert self.histories.problem is None
        with self.keyspace.node.session() as session:
            different = {
                table: found for table in SHOWN if (found := self._unequal(session, table))
            }
        assert not different
        assert self._copies() == copies

    def _copies(self) -> list[str]:
        text = httpx.get(f"http://127.0.0.1:{self.stack.http_port}/metrics", timeout=SECONDS).text
        return [line for line in text.splitlines() if line.startswith("htapkit_copies_total")]

    def _unequal(self, session: Session, table: str) -> list[str]:
        """What the copy has too many (+) and too few (-) of a table; [] = equal."""
        name = self.keyspace.name
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            expected = selected(session, name, table)
            assert len(expected) > 1, table  # of `agreed` some of its 8 keys are left
            with closing(connected(self.stack, "events")) as connection:
                sql = f"SELECT {SHOWN[table]} FROM {name}.{table}".encode()
                found = sorted(connection.execute(sql).fetchall(), key=repr)
            if found == expected:
                return []
            if time.monotonic() > deadline:
                here, there = Counter(map(repr, found)), Counter(map(repr, expected))
                return [f"+{row}" for row in here - there] + [f"-{row}" for row in there - here]


def _places(position: str) -> tuple[tuple[int, int], ...]:
    nodes = json.loads(position)["nodes"]
    return tuple((nodes[name][0], nodes[name][1]) for name in sorted(nodes))


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_killed_again_and_again(keyspace: Keyspace, tmp_path: Path) -> None:
    """Each of the three in turn: of 100 about 5 are of the node, 15 of a reader, 80 of htapkit."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    told = os.environ.get(KILLS)
    wanted = int(told or KILLS_WANTED)
    print(f"CASSANDRA_SEED={seed}")
    killing, begun = Killing(keyspace, tmp_path / "stack", seed), time.monotonic()
    with ExitStack() as running:
        running.callback(killing.stack.stop)
        running.callback(killing.histories.end)
        killing.begin()
        for number in count():
            seconds, kills = time.monotonic() - begun, sum(killing.died.values())
            written = killing.histories.written
            print(f"{seconds:.0f} s: {written} written, {dict(killing.died)}", flush=True)
            if kills >= wanted or (not told and kills >= KILLS_MIN and seconds > BUSY_SECONDS):
                break
            killing.kill(number)
        killing.equals()
    histories = killing.histories
    print(f"{histories.written} written, {histories.failed} failures; moved {killing.moved} times")
    assert killing.died["node"]
    assert killing.died["reader"]
    assert killing.moved > kills // 5
