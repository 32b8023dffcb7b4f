"""Random histories of a copy that is made range by range: in the end it is the table."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from htapkit.model import Truncate
from tests.ranged_copy import SCHEMA, TABLE, Copy
from tests.unit.htapkit.hot.building import Rows


class History:
    """A random history of a copy."""

    def __init__(self, copy: Copy, chance: random.Random) -> None:
        self.copy = copy
        self.chance = chance
        self.seen: Counter[str] = Counter()

    def run(self, steps: int) -> None:
        copy, chance = self.copy, self.chance
        for _ in range(chance.randint(1, 8)):
            self.write()
        copy.start()
        actions = [self.write] * 6 + [self.lag] * 3 + [self.read] * 2 + [self.fold, self.other]
        for _ in range(steps):
            chance.choice(actions)()
        for _ in range(100):
            while left := copy.left():
                copy.read(chance.choice(left))
            copy.stream()
            if copy.finish():
                break
            self.seen["not yet"] += 1
        assert copy.found() == sorted(copy.rows.values())

    def write(self) -> None:
        """One transaction of a few changes."""
        rows, made = self.copy.rows, Rows(SCHEMA)
        for _ in range(self.chance.randint(1, 4)):
            key, value = self.chance.randrange(40), self.chance.randrange(1000)
            if key not in rows:
                rows[key] = (key, value, f"s{value}")
                made.insert(*rows[key])
                continue
            kind = self.chance.choice(["update", "delete", "move", "move"])
            target = self.chance.randrange(40)
            skip = ["s"] if self.chance.random() < 0.5 else []
            text = rows[key][2] if skip else f"s{value}"
            if kind == "delete":
                made.delete(*rows.pop(key))
            elif kind == "move" and target not in rows:
                del rows[key]
                rows[target] = (target, value, text)
                made.update(*rows[target], before=(key,), skip=skip)
                self.seen["move"] += 1
            else:
                rows[key] = (key, value, text)
                made.update(*rows[key], skip=skip)
        self.copy.commit(made.changes())

    def lag(self) -> None:
        """The stream comes some way on."""
        self.copy.stream(self.chance.randint(1, 3))

    def read(self) -> None:
        left = self.copy.left()
        if left:
            self.copy.read(self.chance.choice(left))

    def fold(self) -> None:
        before = self.copy.left()
        self.copy.fold()
        self.seen["again"] += len(set(self.copy.left()) - set(before))

    def other(self) -> None:
        """A restart, or now and then a truncate."""
        if self.chance.random() < 0.7:
            self.copy.restart()
            return
        self.copy.rows.clear()
        self.copy.commit(Truncate((TABLE,), 0))
        self.seen["truncate"] += 1


WANTED = ("again", "move", "not yet", "truncate")
HISTORIES, HISTORIES_MAX = 24, 500  # one history in seven has "again", one in three "not yet"


def test_random_histories(tmp_path: Path) -> None:
    """Whatever happens between two ranges, the copy is the table in the end."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    seen: Counter[str] = Counter()
    for number in range(HISTORIES_MAX):
        copy = Copy(tmp_path / str(number))
        history = History(copy, random.Random(seed + number))
        try:
            history.run(steps=30)
        finally:
            copy.close()
        seen += history.seen
        if number >= HISTORIES and all(seen[what] for what in WANTED):
            break
    print(dict(seen))
    assert all(seen[what] for what in WANTED), f"not all of it was tested: {dict(seen)}"
