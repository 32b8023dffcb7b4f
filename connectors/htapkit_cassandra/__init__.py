"""Apache Cassandra as a source: its schema and its changes; see README.md for what is not there."""

from htapkit_cassandra.source import CassandraSource

__all__ = ["CassandraSource"]
