"""PostgreSQL 15 to 18 as a source: snapshot, change stream, preflight, origin."""

from htapkit_postgres.source import PostgresSource

__all__ = ["PostgresSource"]
