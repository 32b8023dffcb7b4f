"""One Kafka cluster as a sink."""

from __future__ import annotations

import time
from collections.abc import Sequence

from htapkit.errors import SinkFailed
from htapkit.model import Finding, Severity
from htapkit.sinks import SinkOptions
from htapkit_kafka import client
from htapkit_kafka.arrow import ArrowFormat
from htapkit_kafka.envelope import JsonFormat
from htapkit_kafka.session import KafkaSession
from htapkit_kafka.settings import parse_settings


class KafkaSink:
    """The factory under the entry point `htapkit.sinks`, and the sinks.Sink that it makes."""

    def __init__(self, options: SinkOptions) -> None:
        """Check the settings; nothing is connected yet. Raises ConfigError."""
        self._settings = parse_settings(options)

    def check(self) -> Sequence[Finding]:
        """The preflight: brokers that answer, and the topics that have to be there."""
        settings = self._settings
        where = f"sinks.{settings.sink}"
        try:
            admin = client.admin(settings)
            topic = settings.positions_topic
            there = client.partitions(settings, admin, topic)
        except SinkFailed as error:
            words = str(error).removeprefix(f"{settings.sink}: ")
            return [Finding(Severity.ERROR, where, words)]
        found = [Finding(Severity.OK, where, f"the brokers at {settings.brokers} answer")]
        if not there and not settings.create_topics:
            remedy = (
                f"kafka-topics.sh --create --topic {topic} --partitions 1 "
                "--config cleanup.policy=compact"
            )
            words = f"topic {topic} is not there, and create_topics is false"
            found.append(Finding(Severity.ERROR, where, words, remedy))
        return found

    def open(self) -> KafkaSession:
        """Take the feed over from whoever had it."""
        settings = self._settings
        arrow = settings.format == "arrow"
        return KafkaSession(settings, ArrowFormat() if arrow else JsonFormat(settings), time.time)
