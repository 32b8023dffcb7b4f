"""Random changes of a table's columns with rows between, faster than the stream follows.

Half of the bursts are one transaction each: the catalog is then at its end before the first row is
decoded. In the end every row is written once more, which no new copy can hide.
"""

from __future__ import annotations

import random
import secrets

import pytest

from tests.fix_mirror import Mirrored

pytestmark = pytest.mark.integration

TYPES = {"int": "{0}.id", "text": "'v' || {0}.id", "bigint": "-{0}.id"}
NAMES = ("a", "b", "c", "d")


class Burst:
    """What is done to one table."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self._chance = chance
        self._columns = {"v": "int", "w": "text"}
        self._rows = 40
        self.statements: list[str] = []
        self.made = [
            f"create table {name} (id int primary key, v int, w text)",
            f"insert into {name} select g, g, 'v' || g from generate_series(1, 40) g",
        ]

    def draw(self, steps: int) -> None:
        """Some statements."""
        for _ in range(steps):
            chance = self._chance.random()
            if chance < 0.5:
                self._write()
            elif chance < 0.7:
                self._add()
            elif chance < 0.85:
                self._rename()
            else:
                self._drop()

    def _free(self) -> list[str]:
        return [name for name in NAMES if name not in self._columns]

    def _write(self) -> None:
        part = f"where id % 5 = {self._chance.randrange(5)}"
        which = self._chance.random()
        if which < 0.2:
            self._rows += 1
            self.statements.append(f"insert into {self.name} (id) values ({self._rows})")
        elif which < 0.3:
            self.statements.append(f"delete from {self.name} {part} and id % 3 = 0")
        elif self._columns:
            column = self._chance.choice(sorted(self._columns))
            value = TYPES[self._columns[column]].format(self.name)
            self.statements.append(f"update {self.name} set {column} = {value} {part}")

    def _add(self) -> None:
        if free := self._free():
            name, kind = self._chance.choice(free), self._chance.choice(sorted(TYPES))
            self._columns[name] = kind
            self.statements.append(f"alter table {self.name} add column {name} {kind}")

    def _rename(self) -> None:
        if self._columns and (free := self._free()):
            old, new = self._chance.choice(sorted(self._columns)), self._chance.choice(free)
            self._columns[new] = self._columns.pop(old)
            self.statements.append(f"alter table {self.name} rename column {old} to {new}")

    def _drop(self) -> None:
        if self._columns:
            name = self._chance.choice(sorted(self._columns))
            del self._columns[name]
            self.statements.append(f"alter table {self.name} drop column {name}")


def bursts(
    mirror: Mirrored, prefix: str, tables: int, steps: int, *, is_away: bool = False
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    made = [Burst(f"{prefix}_{number}", chance) for number in range(tables)]
    names = [burst.name for burst in made]
    mirror.run(*(statement for burst in made for statement in burst.made))
    mirror.follows(*names)
    if is_away:
        mirror.stack.kill()
    for number, burst in enumerate(made):
        burst.draw(steps)
        with mirror.database.connect() as connection:
            connection.autocommit = number % 2 == 0
            for statement in burst.statements:
                connection.execute(statement)
    if is_away:
        mirror.stack.start()
    mirror.settles(*names)
    mirror.run(*(f"update {name} set id = -id" for name in names))
    mirror.equal(*names)


def test_any_columns_in_a_burst(mirror: Mirrored) -> None:
    bursts(mirror, "any", tables=8, steps=16)


def test_a_burst_while_nobody_followed(mirror: Mirrored) -> None:
    bursts(mirror, "away", tables=8, steps=16, is_away=True)


@pytest.mark.long
def test_many_bursts(mirror: Mirrored) -> None:
    bursts(mirror, "many", tables=40, steps=24)
