"""The door for commands that packages add: what such a command is given of the htapkit around it.

A package registers a `click.Command` under the entry point group `htapkit.commands`; it is loaded
when it is asked for. `click.pass_obj` gives it Surroundings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from htapkit.spi import SourceOptions

Rows = AbstractContextManager[tuple[pa.Schema, Iterator[pa.RecordBatch]]]
"""Columns, and rows in pieces, while it is entered."""


class Surroundings(Protocol):
    """The configuration, and the server that runs by it."""

    def source_options(self, config_path: Path, name: str, connector: str) -> SourceOptions:
        """What the configuration says of a source of that connector. Raises ConfigError."""
        ...

    def rows(self, config_path: Path, sql: str, source: str, user: str) -> Rows:
        """Ask the running server a statement, of the database `source`; "" = of the first source.

        `user` logs in with the password in PGPASSWORD. Raises ConfigError (there is no port for
        it), ServerUnreachable, ServerRefused.
        """
        ...
