"""Apache Cassandra as a source: its schema and its changes; see README.md for what is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from htapkit_cassandra.source import CassandraSource

__all__ = ["CassandraSource"]


def __getattr__(name: str) -> object:
    """The source once it is asked for: an agent, which is no client, needs neither it nor Arrow."""
    if name != "CassandraSource":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from htapkit_cassandra.source import CassandraSource  # noqa: PLC0415 - see above

    return CassandraSource
