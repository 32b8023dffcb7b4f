"""librdkafka's clients with our settings, and the one place where its errors become ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from htapkit.errors import SinkFailed, SinkRefused
from htapkit_kafka.settings import Settings

ASK_SECONDS: Final = 10.0
SEND_SECONDS: Final = 30  # a message that no broker takes for so long ends the session
COMMIT_SECONDS: Final = 45.0  # more than a message; then only a new session knows
CLAIM_SECONDS: Final = 60.0  # what another producer left open has to be ended first
_READ_SECONDS: Final = 120.0

_POLICY: Final = "cleanup.policy"
# Each session reads all of it, and the newest segment is not compacted: that has to be small.
_COMPACTED: Final = {
    _POLICY: "compact",
    "segment.bytes": str(4 << 20),
    "min.cleanable.dirty.ratio": "0.1",
}

_log = logging.getLogger("htapkit.kafka")
_REFUSED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant it the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant it IdempotentWrite, or Create on the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant it Write on the transactional id",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant it Read on the group",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check sinks.*.client",
    KafkaError._AUTHENTICATION: "check sinks.*.client",
    KafkaError._INVALID_ARG: "check sinks.*.client",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise client.message.max.bytes, and max.message.bytes there",
    KafkaError.INVALID_RECORD: "a compacted topic takes no message without a key (TRUNCATE, a copy "
    "that begins again, a table without one, format: arrow): set its cleanup.policy to delete",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "lower transaction_seconds, or raise the brokers' "
    "transaction.max.timeout.ms",
    KafkaError.UNSUPPORTED_VERSION: "use a newer broker",
    KafkaError.TOPIC_EXCEPTION: "choose another topic",
    KafkaError.INVALID_REPLICATION_FACTOR: "lower replication",
    KafkaError.POLICY_VIOLATION: "make the topic yourself",
    KafkaError._FENCED: "another htapkit feeds a sink of this name; give one of them another",
    KafkaError.INVALID_PRODUCER_EPOCH: "another htapkit feeds a sink of this name; give one of "
    "them another, where this goes on",
}


def refused(error: KafkaError) -> str:
    """What somebody has to do about an error; "" = trying again may help."""
    return _REFUSED.get(error.code(), "")


@contextmanager
def translated(settings: Settings, doing: str) -> Iterator[None]:
    """Turn Kafka's errors inside into ours."""
    try:
        yield
    except KafkaException as error:
        raise translate(settings, doing, error.args[0]) from None


def translate(settings: Settings, doing: str, error: KafkaError) -> SinkFailed:
    """Our error for one of Kafka's."""
    remedy = refused(error)
    text = f"{settings.sink}: cannot {doing}: {error.name()}: {error.str()} ({settings.brokers})"
    return SinkRefused(f"{text}; {remedy}") if remedy else SinkFailed(text)


def _common(settings: Settings) -> dict[str, object]:
    # Each try to connect would be a line; what matters comes as an error to whoever asked.
    defaults = {"client.id": f"htapkit-{settings.sink}", "log_level": 2}
    given = {**defaults, **settings.client}
    # Asking for a topic must not make it, with the brokers' defaults.
    ours = {"bootstrap.servers": settings.brokers, "allow.auto.create.topics": False}
    return {**given, **ours, "logger": _log}


def producer(settings: Settings) -> Producer:
    """A transactional producer; nothing is asked of a broker yet. Raises SinkRefused."""
    ours = {
        "transactional.id": settings.transactional_id,
        "transaction.timeout.ms": settings.transaction_seconds * 1000,
        "message.timeout.ms": min(settings.transaction_seconds, SEND_SECONDS) * 1000,
        "enable.idempotence": True,
        # A broker that knows nothing of a new partition yet refuses the first request and takes the
        # second, and then the first is lost for good (KAFKA-15591).
        "max.in.flight.requests.per.connection": 1,
        "partitioner": "murmur2",  # as Java's producer has it
    }
    defaults = {"linger.ms": 5, "compression.type": "lz4", "queue.buffering.max.kbytes": 65_536}
    with translated(settings, "make a producer"):
        return Producer({**defaults, **_common(settings), **ours})


def admin(settings: Settings) -> AdminClient:
    """To ask about topics, and to make them. Raises SinkRefused."""
    with translated(settings, "make a client"):
        return AdminClient(_common(settings))  # type: ignore[arg-type]  # a logger is fine, too


def partitions(settings: Settings, asked: AdminClient, topic: str) -> int:
    """How many a topic has; 0: it is not there."""
    with translated(settings, f"look for topic {topic}"):
        found = asked.list_topics(topic, ASK_SECONDS).topics[topic]
        missing = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
        if found.error is not None and found.error.code() not in missing:
            raise KafkaException(found.error)
        return len(found.partitions)


def compacted(settings: Settings, asked: AdminClient, topic: str) -> bool:
    """Whether a topic keeps the newest record of each key; True where we may not ask."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    with translated(settings, f"look at topic {topic}"):
        try:
            told = asked.describe_configs([resource], request_timeout=ASK_SECONDS)[resource]
            policy = told.result(ASK_SECONDS)[_POLICY].value
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return True
            raise
    return set(policy.replace(" ", "").split(",")) == {"compact"}


def make_topic(settings: Settings, asked: AdminClient, topic: str, *, compacted: bool) -> None:
    """Make a topic; one that is there is fine."""
    config = _COMPACTED if compacted else {}
    count = 1 if compacted else settings.partitions
    wanted = NewTopic(topic, count, settings.replication, config=config)
    with translated(settings, f"make topic {topic}"):
        try:
            asked.create_topics([wanted], request_timeout=ASK_SECONDS)[topic].result(ASK_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def read_all(settings: Settings, topic: str) -> dict[bytes, bytes | None]:
    """The newest committed value of every key of a topic of one partition."""
    ours = {
        "group.id": settings.transactional_id,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    found: dict[bytes, bytes | None] = {}
    with translated(settings, f"read topic {topic}"):
        consumer = Consumer({**_common(settings), **ours})
        try:
            consumer.assign([TopicPartition(topic, 0, 0)])
            while True:
                message = consumer.poll(_READ_SECONDS)
                if message is None:
                    raise SinkFailed(f"{settings.sink}: topic {topic} does not come to its end")
                error = message.error()
                if error is None:
                    key = message.key()
                    if key is not None:
                        found[key] = message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise KafkaException(error)
        finally:
            consumer.close()
