"""An export in parts: a file for each period, and beside them a list of those that are whole.

Each part is exact at the position that it names. What was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from htapkit.errors import ConfigError
from htapkit.export import ExportFailed, Place
from htapkit.tier import after, floor, microseconds

LIST = "_parts.json"
UNITS = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
_PARTS_MAX = 1000


@dataclass(frozen=True, slots=True)
class PartsAsked:
    """What a folder of parts holds: the rows of a table in [begin, end), by the period."""

    table: str
    begin: str
    end: str
    unit: str
    format: str


@dataclass(frozen=True, slots=True)
class Part:
    """One file, and the times of its rows."""

    name: str  # below the export's folder
    begin: datetime
    end: datetime


def parts_of(asked: PartsAsked, begin: datetime, end: datetime) -> list[Part]:
    """The parts, in order. Raises ConfigError where there are none, or too many."""
    found: list[Part] = []
    for first, last in _periods(begin, end, asked.unit):
        if len(found) == _PARTS_MAX:
            raise ConfigError(
                f"from {asked.begin} to {asked.end} by {asked.unit}: more than {_PARTS_MAX} parts; "
                "choose longer ones, or several folders"
            )
        name = f"{floor(first, asked.unit).strftime(UNITS[asked.unit])}.{asked.format}"
        found.append(Part(name, first, last))
    if not found:
        raise ConfigError(f"from {asked.begin} to {asked.end}: no time lies in it")
    return found


def _periods(begin: datetime, end: datetime, unit: str) -> Iterator[tuple[datetime, datetime]]:
    while begin < end:
        start = floor(begin, unit)
        length = after(microseconds(start), unit) - microseconds(start)
        following = min(end, start + timedelta(microseconds=length))
        yield begin, following
        begin = following


@dataclass(slots=True)
class PartList:
    """Which parts of one export are whole. Written anew, as a whole, after each."""

    place: Place
    folder: str
    asked: PartsAsked
    done: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # rows, bytes, position

    @property
    def rows(self) -> int:
        """Of the parts that are whole."""
        return sum(done["rows"] for done in self.done.values())

    def begin(self) -> None:
        """Go on with what was cut off; what is complete is made anew.

        Raises ConfigError where the folder holds another export, ExportFailed.
        """
        self.place.clear(self._name)
        text = self.place.read(self._name)
        if text is not None:
            try:
                found = json.loads(text)
                asked, done, complete = found["asked"], found["done"], found["complete"]
            except (ValueError, KeyError, TypeError):
                raise ConfigError(f"{self._name} is no list of parts; remove it") from None
            if asked != asdict(self.asked):
                raise ConfigError(
                    f"{self.folder} holds another export ({asked}); remove it, or choose "
                    "another folder"
                )
            self.done = {} if complete else {n: d for n, d in done.items() if self._is_there(n, d)}
        self.write(complete=False)

    def add(self, name: str, done: Mapping[str, Any]) -> None:
        """One more is whole. Raises ExportFailed."""
        self.done[name] = {key: done[key] for key in ("rows", "bytes", "position")}
        self.write(complete=False)

    def write(self, *, complete: bool) -> None:
        """Say so in the list. Raises ExportFailed."""
        body = {"complete": complete, "asked": asdict(self.asked), "done": self.done}
        with self.place.new_file(self._name) as file:
            file.write(json.dumps(body, indent=1).encode())

    def _is_there(self, name: str, done: Mapping[str, Any]) -> bool:
        try:
            return bool(self.place.size(f"{self.folder}/{name}") == done["bytes"])
        except ExportFailed:
            return False

    @property
    def _name(self) -> str:
        return f"{self.folder}/{LIST}"
