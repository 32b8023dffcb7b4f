"""A consumer that only trusts what is committed, and replays every event to tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from htapkit_kafka.envelope import TABLE_KEY
from htapkit_kafka.values import UNAVAILABLE

SECONDS = 60.0
Row = dict[str, Any]


def committed(address: str, topic: str, partitions: int = 1) -> list[Message]:
    """All messages of a topic that read_committed shows, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "replay",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    found, left = [], partitions
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        while left:
            message = consumer.poll(SECONDS)
            assert message is not None, f"{topic} does not come to its end"
            error = message.error()
            if error is None:
                found.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left -= 1
    finally:
        consumer.close()
    return found


@dataclass(slots=True)
class Replayed:
    """What the events of one topic come to, and how the transactions came."""

    tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    transactions: list[str] = field(default_factory=list)  # in order, each once
    ops: dict[str, int] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    _order: int = 0
    _moved: dict[tuple[str, str], Row] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Replay one message. Fails where a transaction is torn, repeated or out of order."""
        value, key = message.value(), (message.key() or b"").decode()
        if value is None:
            table = self.tables[_table(json.loads(key), message)]
            assert key not in table, "a tombstone stands behind a delete"
            return
        event = json.loads(value)
        self.events.append(event)
        self._in_order(event)
        self.ops[event["op"]] = self.ops.get(event["op"], 0) + 1
        name = f"{event['source']['schema']}.{event['source']['table']}"
        rows = self.tables.setdefault(name, {})
        headers = dict(_headers(message))
        if event["op"] == "t":
            rows.clear()
        elif event["op"] == "d":
            self._moved[name, key] = rows.pop(key)
        else:
            self._write(rows, name, key, event, headers.get("__debezium.oldkey", b"").decode())

    def _write(self, rows: dict[str, Row], name: str, key: str, event: Row, old: str) -> None:
        row = event["after"]
        assert (key in rows) == (event["op"] == "u"), f"{event['op']} of {key} in {name}"
        before = self._moved[name, old] if old else rows.get(key, {})
        rows[key] = {n: before[n] if v == UNAVAILABLE else v for n, v in row.items()}

    def _in_order(self, event: Row) -> None:
        transaction = event["transaction"]
        if transaction is None:
            assert event["op"] in {"r", "t"}
            return
        if not self.transactions or transaction["id"] != self.transactions[-1]:
            assert not self.transactions or transaction["id"] > self.transactions[-1]
            self.transactions.append(transaction["id"])
            self._order = 0
        self._order += 1
        assert transaction["total_order"] == self._order, transaction


def _headers(message: Message) -> list[tuple[str, bytes]]:
    found = message.headers() or []
    assert isinstance(found, list)
    return [(name, value) for name, value in found if isinstance(value, bytes)]


def _table(key: Row, message: Message) -> str:
    return key.get(TABLE_KEY) or ".".join((message.topic() or "").split(".")[1:])


def replay(address: str, topic: str) -> Replayed:
    """Of a topic of one partition."""
    replayed = Replayed()
    for message in committed(address, topic):
        replayed.take(message)
    return replayed
