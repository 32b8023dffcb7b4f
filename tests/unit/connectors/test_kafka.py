"""The Kafka sink without a broker: keys, values, events, records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from htapkit.errors import ConfigError, SinkFailed, SinkRefused
from htapkit.model import Column, Position, RowChanges, SqlType, Storage, TableId, TableSchema
from htapkit.sinks import Changed, Commit, FedTable, Part, Progress, SinkOptions, Stage
from htapkit_kafka.arrow import BYTES_MAX, ArrowFormat
from htapkit_kafka.client import translate
from htapkit_kafka.envelope import TABLE_KEY, Event, JsonFormat, Order
from htapkit_kafka.records import read, records
from htapkit_kafka.session import KafkaSession
from htapkit_kafka.settings import Settings, parse_settings
from htapkit_kafka.values import UNAVAILABLE, json_values, zoned

TABLE = TableId("shop", "public", "orders")
COLUMNS = (
    Column("id", SqlType("int4", 23), 1, nullable=False),
    Column("v", SqlType("text", 25), 2, collation="x.y"),
    Column("n", SqlType("numeric", 1700, 655366), 3, storage=Storage.TEXT),
)
SCHEMA = TableSchema(TABLE, COLUMNS, ("id",))


def settings(**more: object) -> Settings:
    given = {"brokers": "a:9092,b:9092", **more}
    return parse_settings(SinkOptions("events", "shop", given))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("brokers", "nowhere"),
        ("topic", "{other}"),
        ("topic", "with space"),
        ("format", "avro"),
        ("partitions", 0),
        ("tombstones", "yes"),
        ("transaction_seconds", 1),
        ("client", "x"),
        ("client", {"transactional.id": "mine"}),
        ("unknown", 1),
    ],
)
def test_wrong_keys_are_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"sinks.events.{key}"):
        settings(**{key: value})


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(settings(client={"sasl.password": "hidden"}))


def test_topics() -> None:
    odd = TableId("shop", "public", "two words")
    assert settings().topic_of(odd) == "shop.public.two_words"
    assert not settings().shared
    assert settings(topic="all").shared


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_are_iso(moment: datetime) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    us = (moment - epoch) // timedelta(microseconds=1)
    assert datetime.fromisoformat(zoned(us)) == moment


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (253_402_300_800_000_000, "+10000-01-01T00:00:00Z"),
        (-62_135_596_800_000_001, "0000-12-31T23:59:59.999999Z"),
        (-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"),
        (2**63 - 1, "infinity"),
        (1 - 2**63, "-infinity"),
    ],
)
def test_instants_beyond_python(us: int, shown: str) -> None:
    assert zoned(us) == shown


def test_vectors_are_lists() -> None:
    """Each number as the shortest that is this float4; what JSON has no number for, as a word."""
    rows = [[0.1, -0.0], None, [float("nan"), float("-inf")]]
    column = pa.array(rows, pa.list_(pa.float32(), 2))
    expected = [[0.1, -0.0], None, ["NaN", "-Infinity"]]
    assert repr(json_values(column)) == repr(expected)
    assert repr(json_values(column.slice(1))) == repr(expected[1:])


def test_progress_comes_back() -> None:
    fed = FedTable(SCHEMA, "print", Stage.COPYING, Position("7"), begun=True, why="é")
    other = TableId("shop", "public", "other")
    before = Progress(Position("1"), "server", {TABLE: fed, other: fed})
    stored = dict(records(Progress(), before))
    after = Progress(Position("2"), "server", {TABLE: fed})
    changed = dict(records(before, after))
    assert len(changed) == 2, "the position, and the table that is gone"
    assert read("shop", {**stored, **changed}) == after


def test_a_compacted_topic_is_named() -> None:
    """It refuses every message without a key, for good."""
    error = translate(settings(), "commit", KafkaError(KafkaError.INVALID_RECORD))
    assert isinstance(error, SinkRefused)
    assert "cleanup.policy" in str(error)


def test_two_tables_of_one_topic() -> None:
    """Their keys could not be told apart."""
    session = KafkaSession.__new__(KafkaSession)
    session._settings, session._tables = settings(), {}
    first, second = (TableId("shop", "public", name) for name in ("größe", "gräße"))
    assert session._topic_of(first) == session._topic_of(first)
    with pytest.raises(SinkRefused, match=r"shop\.public\.gr__e"):
        session._topic_of(second)
    session._settings, session._tables = settings(topic="{source}.all"), {}
    assert session._topic_of(first) == session._topic_of(second)


class _Away:
    """A producer whose brokers are away in the middle of a transaction."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def purge(self) -> None:
        self.done.append("purge")

    def poll(self, _: float) -> None:
        self.done.append("poll")

    def abort_transaction(self, seconds: float) -> None:
        assert seconds <= 10
        self.done.append("abort")
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def close(self) -> None:
        raise AssertionError("it waits for the brokers, however long they are away")


def test_letting_go_waits_for_no_broker() -> None:
    """Else the feed's thread could not let the source's log go."""
    session = KafkaSession.__new__(KafkaSession)
    away = _Away()
    session._producer, session._open = away, True  # type: ignore[assignment]
    session.close()
    session.close()
    assert away.done == ["purge", "abort", "purge", "poll"]
    assert not hasattr(session, "_producer"), "the last reference ends it"


class _Slow:
    """A producer whose broker has not answered yet for some messages."""

    def produce(self, *_: object, **__: object) -> None:
        return

    def flush(self, _: float) -> int:
        return 2

    def commit_transaction(self, _: float) -> None:
        raise AssertionError("messages may be lost in it")


def test_no_commit_before_each_message_has_its_place() -> None:
    session = KafkaSession.__new__(KafkaSession)
    session._settings, session._failed, session._sent = settings(), None, 0
    session._producer, session._open = _Slow(), True  # type: ignore[assignment]
    session._progress = Progress(Position("1"), "", {})
    with pytest.raises(SinkFailed, match="2 messages were not delivered"):
        session.commit(Progress(Position("2"), "", {}))


def test_foreign_records_are_refused() -> None:
    with pytest.raises(SinkRefused, match="did not write"):
        read("shop", {b"{}": b"1"})
    with pytest.raises(SinkRefused, match="version 9"):
        read("shop", {b'{"kind":"position"}': b'{"version": 9}'})


def change(ops: list[int], ids: list[int], former: list[int | None]) -> RowChanges:
    rows = pa.record_batch(
        [pa.array(ids, pa.int32()), pa.array(["v"] * len(ids)), pa.array(["1"] * len(ids))],
        schema=SCHEMA.arrow,
    )
    return RowChanges(
        TABLE,
        pa.array(ops, pa.int8()),
        rows,
        pa.array(range(len(ids)), pa.int32()),
        pa.record_batch({"id": pa.array(former, pa.int32())}),
        pa.array([key is not None for key in former]),
        {"v": pa.array([op == 1 for op in ops])},
    )


def part(rows: RowChanges) -> Part:
    count = rows.rows.num_rows
    commits = [Commit(Position(f"{n}"), n * 1000) for n in range(count)]
    return Part(commits, [Changed(SCHEMA, rows)])


def told(event: Event) -> tuple[Any, Any]:
    assert event.key is not None
    value = json.loads(event.value) if event.value else {"op": None}
    return json.loads(event.key)["id"], value["op"]


def test_a_changed_key_is_three_events() -> None:
    rows = change([0, 1, 1, 2], [1, 1, 5, 5], [None, None, 1, None])
    found = [e for _, e in JsonFormat(settings()).changes(part(rows), 9, Order())]
    expected = [(1, "c"), (1, "u"), (1, "d"), (1, None), (5, "c"), (5, "d"), (5, None)]
    assert list(map(told, found)) == expected
    assert found[2].headers == [("__debezium.newkey", b'{"id":5}')]
    assert found[4].headers == [("__debezium.oldkey", b'{"id":1}')]
    assert json.loads(found[4].value or b"")["after"]["v"] == UNAVAILABLE
    totals = [json.loads(e.value)["transaction"]["total_order"] for e in found if e.value]
    assert totals == [1, 1, 1, 2, 1]


def test_no_tombstones_and_a_shared_topic() -> None:
    rows = change([2], [1], [None])
    chosen = settings(tombstones=False, topic="all")
    (found,) = [e for _, e in JsonFormat(chosen).changes(part(rows), 9, Order())]
    assert json.loads(found.key or b"") == {"id": 1, TABLE_KEY: "public.orders"}


def test_transactions_of_several_tables_stand_together() -> None:
    other = TableSchema(TableId("shop", "public", "other"), COLUMNS, ("id",))
    first, second = change([0, 0], [1, 2], [None, None]), change([0, 0], [3, 4], [None, None])
    commits = [Commit(Position("a"), None), Commit(Position("b"), None)]
    both = Part(commits, [Changed(SCHEMA, first), Changed(other, second)])
    found = [(t.name, told(e)[0]) for t, e in JsonFormat(settings()).changes(both, 9, Order())]
    assert found == [("orders", 1), ("other", 3), ("orders", 2), ("other", 4)]


def test_arrow_messages_are_bounded() -> None:
    ids = list(range(50))
    rows = pa.record_batch(
        [pa.array(ids, pa.int32()), pa.array(["x" * 100_000] * 50), pa.array(["1"] * 50)],
        schema=SCHEMA.arrow,
    )
    events = list(ArrowFormat().copied(SCHEMA, rows, Position("1"), 0))
    values = [event.value or b"" for event in events]
    assert max(map(len, values)) <= BYTES_MAX
    found = [
        row["after"]["id"] for v in values for row in pa.ipc.open_stream(v).read_all().to_pylist()
    ]
    assert found == ids
