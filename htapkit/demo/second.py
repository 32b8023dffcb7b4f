"""A second source beside the shop: what the demo asks of the connector that brings one.

A connector registers it under the entry point group `htapkit.demos`, by the name of its extra. The
core knows no more of it than stands here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, TypeVar

import psycopg

from htapkit.demo.questions import TIMES, Comparison
from htapkit.errors import ConfigError

DEMOS = "htapkit.demos"
WAIT_SECONDS_MAX = 300  # of a strong read, on a machine where all of this runs

Rows = Sequence[tuple[object, ...]]
Ask = Callable[[str], Rows]
Asked = TypeVar("Asked")


class Question(Protocol):
    """What is asked of the copy, statement by statement, and who else knows the answers."""

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def statements(self) -> Sequence[str]:
        """Asked in a session of the shop; their rows may come in any order."""
        ...

    @property
    def answer(self) -> Callable[[Ask], Sequence[Rows]]:
        """The rows of each statement from the sources themselves; `Ask` asks the shop's."""
        ...


class SecondSource(Protocol):
    """A private server with a table that lives; made anew by each demo.

    Its class is called with a folder for its files and a function that gives a free port, and
    raises ConfigError when the machine lacks what it needs.
    """

    database: str  # its name as a source
    table: str  # its table's full name
    title: str  # the product, for people
    starting: str  # what is being started, for people

    @property
    def settings(self) -> Mapping[str, object]:
        """Its section of the configuration, with the connector's name."""
        ...

    def start(self) -> None:
        """Start the server, and do not wait for it."""
        ...

    def fill(self, rows: int, entities: int) -> str:
        """Wait until it answers and fill it; entities 1 to so many are the shop's customers."""
        ...

    def address(self, entities: int) -> str:
        """For `client`."""
        ...

    @staticmethod
    def client(address: str, number: int) -> AbstractContextManager[Callable[[], str]]:
        """A client in a process of its own: each call is a `read` or a `write`, and says which."""
        ...

    def questions(self, entities: int) -> Sequence[Question]:
        """What to ask."""
        ...

    def stop(self) -> None:
        """End the server; safe to call whatever became of it."""
        ...


class SecondSourceClass(Protocol):
    """What the entry point names."""

    def __call__(self, folder: Path, free_port: Callable[[], int]) -> SecondSource:
        """Nothing runs yet."""
        ...

    @staticmethod
    def client(address: str, number: int) -> AbstractContextManager[Callable[[], str]]:
        """As that of the source."""
        ...


def registered() -> str:
    """The name of the second source; the first by name, should there be several."""
    names = sorted(entry.name for entry in entry_points(group=DEMOS))
    if not names:
        raise ConfigError(
            f"--source both: no installed connector brings a source for the demo ({DEMOS});"
            " install htapkit as a whole, or use --source shop"
        )
    return names[0]


def find_second(name: str) -> SecondSourceClass:
    """The class of that name. Raises ConfigError: the extra is not installed."""
    (entry,) = entry_points(group=DEMOS, name=name)
    try:
        found: SecondSourceClass = entry.load()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--source both needs {error.name}: pip install 'htapkit[{name}]'"
        ) from error
    return found


class Copy:
    """A session of the shop at htapkit's port; everything that it says is as fresh as can be."""

    def __init__(self, dsn: str) -> None:
        """Connect."""
        self._connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
        self._connection.execute("SET htapkit.freshness = 'strong'")
        self._connection.execute(f"SET htapkit.wait_timeout = '{WAIT_SECONDS_MAX}s'".encode())

    def __enter__(self) -> Copy:
        """The session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._connection.close()

    def ask(self, question: Question) -> Sequence[Rows]:
        """The rows of each statement."""
        return [self.rows(statement) for statement in question.statements]

    def rows(self, statement: str) -> Rows:
        """Of one statement."""
        return self._connection.execute(statement.encode()).fetchall()

    def route(self) -> str:
        """Where the last answer came from."""
        return str(self.rows("SHOW htapkit.last_route")[0][0])


def compare_sources(
    questions: Sequence[Question], shop_dsn: str, copy_dsn: str
) -> Iterator[Comparison]:
    """Ask all of the copy and of the sources; nothing may be written meanwhile.

    Times are the best of a few, of one statement. Rows are compared as values, in any order.
    """
    with psycopg.connect(shop_dsn, autocommit=True) as shop, Copy(copy_dsn) as copy:

        def ask_shop(statement: str) -> Rows:
            return shop.execute(statement.encode()).fetchall()

        for question in questions:
            pairs = [
                (_timed(question.answer, ask_shop), _timed(copy.ask, question))
                for _ in range(TIMES)
            ]
            asked = len(question.statements)
            yield Comparison(
                title=question.title,
                rows=sum(map(len, pairs[0][0][1])),
                source_ms=min(source for (source, _), _ in pairs) / asked,
                copy_ms=min(ours for _, (ours, _) in pairs) / asked,
                equal=all(_sorted(source) == _sorted(ours) for (_, source), (_, ours) in pairs),
                route=copy.route(),
            )


def _timed(ask: Callable[[Asked], Sequence[Rows]], what: Asked) -> tuple[float, Sequence[Rows]]:
    began = time.perf_counter()
    rows = ask(what)
    return (time.perf_counter() - began) * 1000, rows


def _sorted(answers: Sequence[Rows]) -> list[list[tuple[object, ...]]]:
    return [sorted(rows, key=repr) for rows in answers]
