"""Loads into the keyspace of a test, as the command does them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cassandra.cluster import Session

from htapkit.model import TableId
from htapkit.spi import SourceOptions
from htapkit_cassandra.fitting import LoadRefused
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.loading import Load, Loaded, Wanted
from htapkit_cassandra.settings import parse_settings
from tests.fix_cassandra import Keyspace


def nothing(_: str, __: int, ___: int | None) -> None:
    """Hears of progress."""


class Loads:
    """Loads into the keyspace of a test."""

    def __init__(self, keyspace: Keyspace, folder: Path) -> None:
        self.keyspace, self.folder = keyspace, folder
        self.session: Session = keyspace.session
        options = SourceOptions("events", keyspace.node.settings(), 5, 1, 10_000, 2**25, 1, None)
        self.settings = parse_settings(options)

    def load(self, name: str = "t", **wanted: Any) -> Load:
        """Of one table."""
        chosen = Wanted(**{"consistency": "ONE", **wanted})
        table = TableId("events", self.keyspace.name, name)
        return Load(self.settings, self.folder / "load", table, chosen)

    def run(self, path: Path, name: str = "t", **wanted: Any) -> Loaded:
        """All of it."""
        load = self.load(name, **wanted)
        with load.locked():
            return load.write(load.prepare(ParquetInput(path), nothing), nothing)

    def refused(self, path: Path, name: str = "t", **wanted: Any) -> LoadRefused:
        """Why it is; nothing was written."""
        with pytest.raises(LoadRefused) as refused:
            self.run(path, name, **wanted)
        return refused.value

    def parquet(self, **columns: Any) -> Path:
        """A file of these columns."""
        path = self.folder / f"{uuid.uuid4()}.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    def create(self, columns: str, options: str = "", name: str = "t") -> None:
        """A table."""
        self.session.execute(f"CREATE TABLE {self.keyspace.name}.{name} ({columns}) {options}")

    def rows(self, what: str = "JSON *", name: str = "t") -> list[Any]:
        """As the node prints them, sorted."""
        return sorted(self.session.execute(f"SELECT {what} FROM {self.keyspace.name}.{name}"))


@pytest.fixture
def loads(keyspace: Keyspace, tmp_path: Path) -> Loads:
    """Over a keyspace of the test's own."""
    return Loads(keyspace, tmp_path)
