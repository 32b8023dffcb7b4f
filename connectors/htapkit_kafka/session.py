"""A feed's way into Kafka: events and progress in one transaction of one producer.

Exactly once: the producer's id is claimed first, which ends what a killed process left open (or
completes what it had decided to commit); only then the progress is read, as committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from htapkit.errors import SinkFailed, SinkRefused
from htapkit.model import Position, TableId, TableSchema
from htapkit.sinks import Commit, Part, Progress
from htapkit_kafka import client
from htapkit_kafka.envelope import Event, Format, Order
from htapkit_kafka.records import read, records
from htapkit_kafka.settings import Settings

_POLL_EVENTS = 1000


class KafkaSession:
    """A sinks.SinkSession."""

    def __init__(self, settings: Settings, format_: Format, now: Callable[[], float]) -> None:
        """Take the feed over. `now`: seconds since 1970. Raises SinkFailed, SinkRefused."""
        self._settings = settings
        self._format = format_
        self._now = now
        self._order = Order()
        self._partitions: dict[str, int] = {}
        self._tables: dict[str, TableId] = {}  # by topic, where each has one of its own
        self._open = False
        self._sent = 0
        self._failed: KafkaError | None = None  # the first message that was not delivered
        self._admin = client.admin(settings)
        self._prepare(settings.positions_topic, compacted=True)
        self._producer = client.producer(settings)
        with client.translated(settings, "claim its transactional id"):
            self._producer.init_transactions(client.CLAIM_SECONDS)
        found = client.read_all(settings, settings.positions_topic)
        self._progress = read(settings.source, found)

    @property
    def progress(self) -> Progress:
        """What was committed last."""
        return self._progress

    def write(self, part: Part) -> None:
        """Send changes."""
        self._send(self._format.changes(part, self._now_ms(), self._order))

    def copy(self, schema: TableSchema, rows: pa.RecordBatch, at: Position) -> None:
        """Send rows as they were at a position."""
        table = schema.table
        events = self._format.copied(schema, rows, at, self._now_ms())
        self._send((table, event) for event in events)

    def truncate(self, schema: TableSchema, at: Position) -> None:
        """Say that a table has no rows."""
        event = self._format.truncated(schema, Commit(at, None), self._now_ms())
        self._send([(schema.table, event)])

    def commit(self, progress: Progress) -> None:
        """Make all that was written visible, with the progress."""
        self._begin()
        for key, value in records(self._progress, progress):
            self._produce(self._settings.positions_topic, Event(key, value), 0)
        left = self._producer.flush(client.COMMIT_SECONDS)
        self._check_delivered()
        if left:  # the commit would wait for them, and then nobody looks whether they have a place
            raise SinkFailed(
                f"{self._settings.sink}: {left} messages were not delivered within "
                f"{client.COMMIT_SECONDS:g} s"
            )
        with client.translated(self._settings, "commit"):
            self._commit()
        self._open = False
        self._progress = progress

    def close(self) -> None:
        """Give up what was not committed, and let go."""
        # Not by its `close`, which waits for brokers without an end: the last reference ends it.
        producer: Producer | None = self.__dict__.pop("_producer", None)
        if producer is None:
            return
        try:
            if self._open:
                self._open = False
                producer.purge()
                producer.abort_transaction(client.ASK_SECONDS)
        except KafkaException:
            pass  # whoever claims the id next ends it
        finally:
            producer.purge()
            producer.poll(0)  # takes what was said of messages, and with it their references to us

    def _commit(self) -> None:
        """Again where Kafka says so; after any other error nobody knows before the next claim."""
        deadline = time.monotonic() + client.COMMIT_SECONDS
        while True:
            try:
                self._producer.commit_transaction(client.COMMIT_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    def _begin(self) -> None:
        if not self._open:
            with client.translated(self._settings, "begin a transaction"):
                self._producer.begin_transaction()
            self._open = True

    def _send(self, events: Iterable[tuple[TableId, Event]]) -> None:
        self._begin()
        topics: dict[TableId, str] = {}
        for table, event in events:
            topic = topics.get(table)
            if topic is None:
                topic = topics[table] = self._topic_of(table)
                self._prepare(topic, compacted=False)
            if event.everywhere:
                for partition in range(self._partitions[topic]):
                    self._produce(topic, event, partition)
            else:
                self._produce(topic, event, -1 if event.key is not None else 0)

    def _topic_of(self, table: TableId) -> str:
        """Raises SinkRefused: another has it, whose keys would be taken for this one's."""
        settings = self._settings
        topic = settings.topic_of(table)
        other = self._tables.setdefault(topic, table)
        if other != table and not settings.shared:
            raise SinkRefused(
                f"{settings.sink}: topic {topic} would be that of {other} and of {table}, since a "
                f"topic's name has letters of ASCII only; leave one out (sinks.{settings.sink}"
                ".tables), or have all in one topic (a name without {table})"
            )
        return topic

    def _produce(self, topic: str, event: Event, partition: int) -> None:
        deadline = time.monotonic() + client.SEND_SECONDS
        while True:
            try:
                self._producer.produce(
                    topic,
                    event.value,
                    event.key,
                    partition,
                    on_delivery=self._delivered,
                    headers=list(event.headers),
                )
            except BufferError:
                self._producer.poll(0.1)
                self._check_delivered()
                if time.monotonic() > deadline:
                    raise SinkFailed(
                        f"{self._settings.sink}: no broker took anything for "
                        f"{client.SEND_SECONDS} s"
                    ) from None
            except KafkaException as error:
                doing = f"send {len(event.value or b'')} bytes to {topic}"
                raise client.translate(self._settings, doing, error.args[0]) from None
            else:
                break
        self._sent += 1
        if self._sent % _POLL_EVENTS == 0:
            self._producer.poll(0)
            self._check_delivered()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None and message.offset() is None:
            # It was refused as having been written before: librdkafka takes that for success.
            error = KafkaError(KafkaError._INCONSISTENT, "a message has no place in its topic")
        if error is not None and self._failed is None:
            self._failed = error

    def _check_delivered(self) -> None:
        if self._failed is not None:
            raise client.translate(self._settings, "send", self._failed)

    def _prepare(self, topic: str, *, compacted: bool) -> None:
        """Have a topic, and know its partitions. Raises SinkRefused: it is not there."""
        if topic in self._partitions:
            return
        settings = self._settings
        count = client.partitions(settings, self._admin, topic)
        if not count:
            if not settings.create_topics:
                raise SinkRefused(
                    f"{settings.sink}: topic {topic} is not there; create it"
                    f"{' with cleanup.policy=compact' if compacted else ''}, or set "
                    f"sinks.{settings.sink}.create_topics: true"
                )
            client.make_topic(settings, self._admin, topic, compacted=compacted)
            deadline = time.monotonic() + client.ASK_SECONDS
            while not (count := client.partitions(settings, self._admin, topic)):
                if time.monotonic() > deadline:
                    raise SinkFailed(f"{settings.sink}: topic {topic} was made, but is not there")
        if compacted and count != 1:
            raise SinkRefused(f"{settings.sink}: topic {topic} has {count} partitions, not one")
        if compacted and not client.compacted(settings, self._admin, topic):
            raise SinkRefused(
                f"{settings.sink}: topic {topic} is not compacted, so what is known of the tables "
                "would be forgotten; kafka-configs.sh --alter --entity-type topics --entity-name "
                f"{topic} --add-config cleanup.policy=compact"
            )
        self._partitions[topic] = count
