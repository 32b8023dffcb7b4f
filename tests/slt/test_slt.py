"""Every .slt file, against PostgreSQL (whose word counts) and through our port.

A file has a schema of its own, named like it. Its setup is run once, at the source; the queries
then run on both, and the copy must have given the answers that the file says it gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.slt import Script, WireEngine, check_all, parse
from htapkit.testing.stack import Stack

pytestmark = pytest.mark.integration

FILES = sorted(Path(__file__).parent.glob("*.slt"))
HOT_NAMES_MIN = 150


@dataclass(frozen=True, slots=True)
class Ends:
    """Where to connect: the source, and the port over its copy."""

    source_dsn: str
    port_dsn: str


def _script(path: Path, engine: str = "postgresql") -> Script:
    return parse(path.read_text(encoding="utf-8"), engine)


def _schema(path: Path) -> str:
    return f'"{path.stem}"'


@pytest.fixture(scope="module")
def ends(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    """One database with the tables of all files, and one htapkit over it."""
    database = Database(pg, f"slt_{pg.version}")
    try:
        for path in FILES:
            with WireEngine(database.dsn) as source:
                source.run(f"create schema {_schema(path)}")
                source.run(f"set search_path to {_schema(path)}")
                failures = check_all(_script(path).setup, source)
                assert not failures, "\n\n".join([path.name, *failures])
        tables = [f"{path.stem}.*" for path in FILES]
        sources = {"shop": {"dsn": database.dsn, "tables": tables}}
        with Stack(tmp_path_factory.mktemp("slt"), sources) as stack:
            stack.wait_ready()
            yield Ends(database.dsn, stack.dsn())
    finally:
        database.drop()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file(path: Path, ends: Ends) -> None:
    """PostgreSQL gives the file's answers, and so do we, from where the file says."""
    with (
        WireEngine(ends.source_dsn) as source,
        WireEngine(ends.port_dsn, "htapkit", routes=True) as port,
    ):
        port.run("SET htapkit.freshness = 'strong'")
        port.run("SET htapkit.wait_timeout = '60s'")
        failures = []
        for engine in (source, port):
            engine.run(f"set search_path to {_schema(path)}")
            failures += check_all(_script(path, engine.name).records, engine)
    assert not failures, f"{len(failures)} differ:\n\n" + "\n\n".join(failures)


def test_enough_named_statements_are_hot() -> None:
    """The promise in numbers: so many named statements must be answered by the copy."""
    names = [
        record.argument
        for path in FILES
        for record in _script(path).records
        if record.route == "hot" and record.argument
    ]
    assert len(names) == len(set(names)), "a name is used twice"
    assert len(names) >= HOT_NAMES_MIN
