"""A node's changes in Kafka: each change of a row once, whatever is killed, and none is missing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from htapkit import failpoints
from htapkit.hot import HotStore
from htapkit.testing.postgres import free_port
from htapkit.testing.stack import Stack
from tests.cassandra.histories import SHOWN, Histories, selected
from tests.fix_cassandra import SECONDS, Keyspace, connected, wait_for
from tests.fix_kafka import Broker
from tests.fix_kills import ask_for_copy
from tests.kafka.replay import Replayed, replay

pytestmark = [pytest.mark.cassandra, pytest.mark.kafka]
# There are no parts of large transactions here.
POINTS = [
    *(name for name in failpoints.SINK if name != "sink.part"),
    "apply.written",
    "apply.committed",
]
SETTLE_SECONDS = 90.0


class Feeding:
    """One htapkit that sends a keyspace to a broker, and the keyspace's histories."""

    def __init__(self, keyspace: Keyspace, broker: Broker, sink: str, folder: Path) -> None:
        """Nothing runs yet."""
        self.keyspace = keyspace
        self.broker = broker
        self.sink = sink
        settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
        about = {"connector": "kafka", "source": "events", "brokers": broker.address}
        self.stack = Stack(
            folder,
            {"events": {"connector": "cassandra", **settings}},
            configuration={
                "sinks": {sink: {**about, "topic": f"{sink}.all"}},
                "limits": {"batch_rows": 200},  # so that a copy is more than one transaction
                # The command line finds it there.
                "servers": {"http": {"listen": f"127.0.0.1:{free_port()}"}},
            },
            preloaded=True,
        )

    def replayed(self) -> Replayed:
        """What is in Kafka now."""
        return replay(self.broker.address, f"{self.sink}.all")

    def wait_following(self) -> None:
        """Until each table was copied to the sink."""

        def following() -> bool | None:
            assert self.stack.running, self.stack.log_end()
            with self.stack.client() as client:
                (found,) = client.status()["sinks"]
            states = [table["state"] for table in found["tables"]]
            return (len(states) == len(SHOWN) and set(states) == {"following"}) or None

        wait_for(following)

    def detach(self) -> None:
        """Give the sink up, while no server runs: the copy keeps nothing for it."""
        self.stack.stop()
        command = [sys.executable, "-m", "htapkit", "detach", self.sink, "--yes"]
        done = subprocess.run(
            command, cwd=self.stack.folder, capture_output=True, text=True, check=False
        )
        assert done.stdout == f"{self.sink}: detached\n", done.stdout + done.stderr
        with HotStore(self.stack.folder / "data" / "hot.duckdb") as store:
            assert not store.journal.bytes_after("events", 0)

    def ends_equal(self) -> Replayed:
        """What lives for a second ends meanwhile; then Kafka has what the node has."""
        begun = time.monotonic()
        with closing(connected(self.stack, "events")) as connection:
            for table in SHOWN:  # the copy has what was acknowledged before
                connection.execute(f"SELECT 1 FROM {self.keyspace.name}.{table}".encode())
        print(f"the copy is fresh after {time.monotonic() - begun:.1f} s")
        deadline = time.monotonic() + SETTLE_SECONDS
        with self.keyspace.node.session() as session:
            while True:
                told = self.replayed()
                different = {}
                for table in SHOWN:
                    expected = selected(session, self.keyspace.name, table)
                    assert len(expected) > 1, table
                    found = _rows(told, f"{self.keyspace.name}.{table}", SHOWN[table], expected)
                    if found != expected:
                        here, there = Counter(map(repr, found)), Counter(map(repr, expected))
                        different[table] = (here - there, there - here)
                if not different:
                    print(f"equal after {time.monotonic() - begun:.1f} s")
                    return told
                assert time.monotonic() < deadline, different


def _rows(
    told: Replayed, name: str, columns: str, expected: list[tuple[object, ...]]
) -> list[tuple[object, ...]]:
    """As `selected` has them: what it shows as json is text in an event."""
    shown = [
        not all(isinstance(row[n], str | int | None) for row in expected)
        for n in range(len(columns.split(", ")))
    ]
    rows = [
        tuple(
            json.loads(row[column]) if as_json and row[column] is not None else row[column]
            for column, as_json in zip(columns.split(", "), shown, strict=True)
        )
        for row in told.tables[name].values()
    ]
    return sorted(rows, key=repr)


def _changed(told: Replayed) -> int:
    """How many events say what became of a row. Fails where one says what was so before."""
    last: dict[tuple[str, str], object] = {}
    count = 0
    for event in told.events:
        table, row = event["source"]["table"], event["after"] or event["before"]
        width = 1 if table == "agreed" else 2  # of its key
        key = table, repr([row and row[name] for name in SHOWN[table].split(", ")[:width]])
        if event["op"] == "u":
            assert last[key] != event["after"], "a change that changes nothing"
            count += 1
        if event["op"] != "t":
            last[key] = event["after"]
    return count


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_each_change_once(
    keyspace: Keyspace, broker: Broker, sink_name: str, tmp_path: Path
) -> None:
    """Each named place once, and now and then anywhere; rows end, tables are copied again."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    chance, died = random.Random(seed), Counter[str]()
    histories = Histories(keyspace, seed)
    feeding = Feeding(keyspace, broker, sink_name, tmp_path / "stack")
    stack = feeding.stack
    with ExitStack() as running:
        running.callback(stack.stop)
        running.callback(histories.end)
        histories.start()
        histories.go_on()
        stack.start()
        feeding.wait_following()
        stack.kill()
        lengths = [len(feeding.replayed().events)]
        for number, point in enumerate(POINTS):
            if number % 3 == 2:
                stack.start()
                stack.wait_ended(chance.random() * 4, kill=True)
                died["anywhere"] += 1
            stack.start({"HTAPKIT_FAILPOINT": f"{point}:1"})
            if point.startswith("sink.cop"):
                ask_for_copy(stack, f"events.{keyspace.name}.t", SECONDS)
            code = stack.wait_ended(SECONDS)
            assert code == -signal.SIGKILL, f"{point}: ended with {code}: {stack.log_end()}"
            died[point] += 1
            lengths.append(len(feeding.replayed().events))
        stack.start()
        feeding.wait_following()
        histories.go_on(400)
        histories.end()
        assert histories.problem is None
        told = feeding.ends_equal()
        feeding.detach()
    print(f"{histories.written} written; {dict(died)}; {told.ops}; {lengths} events between kills")
    assert lengths == sorted(lengths), "what was committed is there for good"
    assert len(set(lengths)) > len(POINTS) // 2, "it hardly got on"
    assert _changed(told) > 50
    assert told.ops.keys() == {"r", "c", "u", "d", "t"}
