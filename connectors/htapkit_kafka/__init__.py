"""Changes of a source to Apache Kafka, exactly once; see README.md."""

from htapkit_kafka.sink import KafkaSink

__all__ = ["KafkaSink"]
