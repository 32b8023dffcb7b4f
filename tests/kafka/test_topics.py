"""Topics made a moment ago: for some, the broker refuses the first request and takes the second."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from htapkit.errors import SinkFailed
from htapkit.model import Column, Position, SqlType, TableId, TableSchema
from htapkit.sinks import Progress, SinkOptions
from htapkit_kafka import client
from htapkit_kafka.arrow import ArrowFormat
from htapkit_kafka.session import KafkaSession
from htapkit_kafka.settings import Settings, parse_settings
from tests.fix_kafka import Broker
from tests.kafka.replay import committed

pytestmark = [pytest.mark.kafka, pytest.mark.integration]
TOPICS = 12
COLUMNS = (
    Column("id", SqlType("int4", 23), 1, nullable=False),
    Column("big", SqlType("text", 25), 2),
)
ROWS = pa.record_batch({"id": pa.array(range(900), pa.int32()), "big": ["x" * 3000] * 900})


def opened(settings: Settings) -> KafkaSession:
    return KafkaSession(settings, ArrowFormat(), time.time)


def settings_of(broker: Broker, sink: str) -> Settings:
    given = {"brokers": broker.address, "format": "arrow"}
    return parse_settings(SinkOptions(sink, sink, given))


def copied(broker: Broker, settings: Settings, table: TableId) -> list[int]:
    """The ids that a topic has, in its order."""
    messages = committed(broker.address, settings.topic_of(table))
    read = [pa.ipc.open_stream(message.value()).read_all() for message in messages]
    assert len(read) > 1, "900 rows of 3 kB are more than one message"
    return [row["id"] for each in read for row in each.column("after").to_pylist()]


def test_new_topics_get_every_message(broker: Broker, sink_name: str) -> None:
    """Of 200 topics, 24 lost their first message of four when requests did not wait."""
    settings = settings_of(broker, sink_name)
    session = opened(settings)
    try:
        for number in range(TOPICS):
            table = TableId(sink_name, "public", f"t{number}")
            session.copy(TableSchema(table, COLUMNS, ("id",)), ROWS, Position(f"{number:016X}"))
            session.commit(Progress(Position(f"{number:016X}"), "", {}))
            assert copied(broker, settings, table) == list(range(900)), table
    finally:
        session.close()


def test_a_lost_message_is_noticed(
    broker: Broker, sink_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With requests that do not wait for each other, a commit fails or has all."""

    def hasty(configuration: Mapping[str, object]) -> Producer:
        return Producer({**configuration, "max.in.flight.requests.per.connection": 5})

    monkeypatch.setattr(client, "Producer", hasty)
    settings = settings_of(broker, sink_name)
    failed = 0
    for number in range(TOPICS):
        table = TableId(sink_name, "public", f"t{number}")
        session = opened(settings)
        try:
            session.copy(TableSchema(table, COLUMNS, ("id",)), ROWS, Position(f"{number:016X}"))
            session.commit(Progress(Position(f"{number:016X}"), "", {}))
        except SinkFailed:
            failed += 1
            continue
        finally:
            session.close()
        assert copied(broker, settings, table) == list(range(900)), table
    print(f"{failed} of {TOPICS} were noticed")
