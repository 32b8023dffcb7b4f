"""A htapkit that feeds the session's broker from a database of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from htapkit.testing.postgres import Database, PostgresServer, free_port
from htapkit.testing.stack import Stack, wait_until
from tests.fix_kafka import Broker

SECONDS = 120.0
SINK_METRICS = {
    "htapkit_sink_rows",
    "htapkit_sink_commits",
    "htapkit_sink_lag_bytes",
    "htapkit_sink_lag_headroom_bytes",
    "htapkit_sink_up",
    "htapkit_sinks_detached",
}


@dataclass(slots=True)
class Fed:
    """A database, and the stack that sends its changes on."""

    database: Database
    broker: Broker
    sink: str
    folder: Path
    stack: Stack

    def configure(self, limits: dict[str, Any] | None = None, **more: Any) -> None:
        """Other keys of the sink, and limits. For before a start."""
        sink = {"connector": "kafka", "source": "shop", "brokers": self.broker.address, **more}
        self.stack = Stack(
            self.folder,
            {"shop": {"dsn": self.database.dsn, "tables": ["public.*"]}},
            configuration={
                "sinks": {self.sink: sink},
                "limits": limits or {},
                # The command line finds it there.
                "servers": {"http": {"listen": f"127.0.0.1:{free_port()}"}},
            },
            preloaded=True,
        )

    def status(self) -> dict[str, Any]:
        """Of the sink."""
        assert self.stack.running, self.stack.log_end()
        with self.stack.client() as client:
            found: dict[str, Any] = client.status()["sinks"][0]
        return found

    def wait_sent(self) -> None:
        """Until the sink has all that is committed now."""
        end = end_of(self.database)
        wait_until(lambda: has(self.status(), end), SECONDS, self.stack.log_end)

    def wait_state(self, state: str) -> dict[str, Any]:
        """Until the feed is in this state; its report."""
        wait_until(lambda: self.status()["state"] == state, SECONDS, self.stack.log_end)
        return self.status()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until it is true."""
        wait_until(condition, SECONDS, self.stack.log_end)


def has(report: dict[str, Any], position: str) -> bool:
    """Whether the sink has all up to a position, and all of its tables follow."""
    follow = {each["state"] for each in report["tables"]} <= {"following"}
    return bool(report["state"] == "sending" and follow and report["position"] >= position)


def end_of(database: Database) -> str:
    """A position that covers all that is committed; something comes behind it."""
    row = database.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0]
    database.execute("SELECT pg_logical_emit_message(true, 'test', 'on')")
    return f"{int(row[0]):016X}"


@pytest.fixture
def fed(pg18: PostgresServer, broker: Broker, sink_name: str, tmp_path: Path) -> Iterator[Fed]:
    """Configured, not started."""
    pg18.start()
    database = Database(pg18, f"db_{sink_name}")
    made = Fed(database, broker, sink_name, tmp_path / "stack", Stack(tmp_path / "none", {}))
    made.configure(topic=f"{sink_name}.all")
    try:
        yield made
    finally:
        made.stack.stop()
        database.drop()
