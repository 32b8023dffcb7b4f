"""What a load has done, on disk: so that one that was interrupted goes on, at its first time.

A folder belongs to one load of one table at a time; it is gone when the load is done.
"""

from __future__ import annotations

import fcntl
import json
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
    """Of a load whose rows are all in the spool."""

    input: str
    table_id: str
    columns: tuple[str, ...]
    rows: int
    rejected: int
    written_at: int  # the time of its cells, in microseconds: when it began
    written: int = 0  # rows that were acknowledged
    attempt: int = 0  # how often it was begun again


class Journal:
    """The folder of one table's loads."""

    def __init__(self, folder: Path) -> None:
        """See `locked`."""
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else's meanwhile. Raises LoadBusy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LoadBusy(f"{self.folder.name} is being loaded by another process") from None
            yield

    @property
    def rows(self) -> Path:
        """The spool."""
        return self.folder / "rows"

    @property
    def rejects(self) -> Path:
        """The file that says which rows were rejected."""
        return self.folder / "rejected.csv"

    def read(self) -> State | None:
        """Of a load that was interrupted."""
        try:
            found = json.loads((self.folder / _NAME).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return State(**{**found, "columns": tuple(found["columns"])})

    def write(self, state: State) -> None:
        """As a whole or not at all."""
        made = self.folder / f"{_NAME}.new"
        made.write_text(json.dumps(asdict(state)), encoding="utf-8")
        made.replace(self.folder / _NAME)

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
