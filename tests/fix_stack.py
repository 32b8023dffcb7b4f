"""A whole htapkit beside a real PostgreSQL, for tests that connect to its ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack


class StackStarter(Protocol):
    """Starts `htapkit serve` on a database, and gives it back when every table follows."""

    def __call__(
        self,
        database: Database,
        *,
        configuration: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> Stack:
        """`database` is the source `shop`; `configuration` is laid over the default one."""
        ...


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[StackStarter]:
    """As many as a test wants; all are stopped at its end, before their databases are dropped."""
    with ExitStack() as running:

        def start(
            database: Database,
            *,
            configuration: Mapping[str, Any] | None = None,
            wait: bool = True,
        ) -> Stack:
            sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
            folder = tmp_path / f"stack-{database.name}"
            stack = Stack(folder, sources, configuration=configuration)
            running.enter_context(stack)
            if wait:
                stack.wait_ready()
            return stack

        yield start


@pytest.fixture
def stack(database: Database, start_stack: StackStarter) -> Stack:
    """An htapkit on `database`, as it is when the fixture is asked for."""
    return start_stack(database)
