"""htapkit: an exact, fresh, columnar copy of a running PostgreSQL, queried by psql.

This package holds the core; databases are attached by connectors (`htapkit.spi`). Nothing is
imported here, so that importing one module never pays for another.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
