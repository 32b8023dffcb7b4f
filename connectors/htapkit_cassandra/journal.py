"""What a load has done, on disk: so that one that was interrupted goes on, at its first time.

A folder belongs to one load of one table at a time; it is gone when the load is done.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from htapkit_cassandra.fitting import LoadRefused

_NAME: Final = "load.json"
_LOCK: Final = "lock"


class LoadBusy(LoadRefused):
    """Another process loads this table, or a load of other rows into it was interrupted."""

    sqlstate = "55006"


@dataclass(frozen=True, slots=True)
class State:
    """Of a load that has begun to write, and whose rows are all in the spool."""

    input: str
    table_id: str
    columns: tuple[str, ...]
    rows: int
    rejected: int
    read_at: int  # when its rows were read, in seconds
    written_at: int  # the time of its cells, in microseconds
    written: int = 0  # rows that were acknowledged
    attempt: int = 0  # how often it was begun again


class Journal:
    """The folder of one table's loads."""

    def __init__(self, folder: Path) -> None:
        """See `locked`."""
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else's meanwhile. Raises LoadBusy.

        Of a load that has not begun to write, nothing is left at the end but what names its rows
        that were rejected.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LoadBusy(f"{self.folder.name} is being loaded by another process") from None
            try:
                yield
            finally:
                if not (self.folder / _NAME).exists():
                    self.clear(but_rejects=True)

    @property
    def rows(self) -> Path:
        """The spool."""
        return self.folder / "rows"

    @property
    def rejects(self) -> Path:
        """The file that says which rows were rejected."""
        return self.folder / "rejected.csv"

    def read(self) -> State | None:
        """Of a load that was interrupted. Raises LoadRefused: it cannot be read."""
        path = self.folder / _NAME
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return State(**{**found, "columns": tuple(found["columns"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise LoadRefused(
                f"{path} is damaged, or of another version of htapkit: it says how far a load was "
                "that was interrupted; give that load up with --restart"
            ) from None

    def write(self, state: State) -> None:
        """As a whole or not at all."""
        made = self.folder / f"{_NAME}.new"
        with made.open("w", encoding="utf-8") as file:
            json.dump(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self.folder / _NAME)
        there = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(there)  # of the spool beside it as well
        finally:
            os.close(there)

    def clear(self, *, but_rejects: bool = False) -> None:
        """Forget the load; `but_rejects`: keep the file that names the rows that were rejected."""
        (self.folder / _NAME).unlink(missing_ok=True)  # first: nothing is resumed without its rows
        kept = {_LOCK, self.rejects.name} if but_rejects else {_LOCK}
        for path in self.folder.iterdir():
            if path.name in kept:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
