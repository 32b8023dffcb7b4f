"""Lookups as CQL, where a key or an index serves them; else the reason why not. Pure.

What is asked may give more rows than were wanted: whoever asks filters, sorts and computes again.
So only what CQL means exactly as the copy does is written into it, and a LIMIT only where nothing
else is left to be filtered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final

from htapkit.errors import LookupRefused
from htapkit.lookups import Condition, Later, Lookup, Nearest
from htapkit_cassandra.catalog import quoted, quoted_table
from htapkit_cassandra.keys import Keys
from htapkit_cassandra.values import EQUAL, ORDERED, NoSuchValue, encoded, vector

PARTITIONS_MAX: Final = 100  # of one statement: each is asked for by its own, at the node
NEAREST_MAX: Final = 1_000
_KEY_BYTES_MAX: Final = 65_535  # the node has no other keys, nor empty ones: it calls them an error
_TERM_BYTES_MAX: Final = 1_000  # of what an index is certain to hold
_SIMILARITY: Final[Mapping[str, tuple[str, ...]]] = {
    "<=>": ("cosine",),
    "<->": ("euclidean",),
    "<#>": ("dot_product",),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A CQL statement. `values` are those of its `?`, as the node has them; None: not yet known."""

    text: str
    columns: tuple[str, ...]
    values: tuple[bytes | None, ...] = ()
    empty: bool = False  # no row can be in it
    approximate: bool = False


@dataclass(slots=True)
class _Asked:
    """The statement being made."""

    asked: Lookup
    keys: Keys
    parts: list[str] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    used: set[int] = field(default_factory=set)  # conditions that it has whole
    empty: bool = False

    def type_(self, column: str) -> str:
        return self.keys.layout.types[column].name

    def equal(self, column: str) -> tuple[int, Condition] | None:
        """The first condition that says what the column equals, in a way that CQL has."""
        if self.type_(column) not in EQUAL:
            return None
        for at, each in enumerate(self.asked.conditions):
            if each.column == column and each.operator == "=":
                return at, each
        return None

    def fix(self, at: int, condition: Condition) -> int:
        """Write down what a column equals; how many values those are."""
        name, type_ = condition.column, self.type_(condition.column)
        made: list[bytes | None] = []
        for value in dict.fromkeys(condition.values):
            if isinstance(value, Later):
                made.append(None)
            elif value is not None:
                try:
                    one = encoded(type_, value)
                except NoSuchValue:
                    continue
                if self.keys.partition != (name,) or 0 < len(one) <= _KEY_BYTES_MAX:
                    made.append(one)
        self.used.add(at)
        self.values += made
        if len(made) == 1:
            self.parts.append(f"{quoted(name)} = ?")
        else:
            self.parts.append(f"{quoted(name)} IN ({', '.join('?' * len(made))})")
        self.empty = self.empty or not made
        return len(made)

    def bound(self, column: str) -> bool:
        """Write down between which values a column lies; whether there was anything."""
        type_, sides = self.type_(column), set()
        if type_ not in ORDERED:
            return False
        for at, each in enumerate(self.asked.conditions):
            side = each.operator[0]
            if each.column != column or side == "=" or side in sides:
                continue
            (value,) = each.values
            if value is None:
                self.empty = True
                continue
            try:
                made = None if isinstance(value, Later) else encoded(type_, value)
            except NoSuchValue:
                continue  # the copy's own comparison will do
            sides.add(side)
            self.used.add(at)
            self.parts.append(f"{quoted(column)} {each.operator} ?")
            self.values.append(made)
        return bool(sides)

    @property
    def whole(self) -> bool:
        """Whether its rows are just those that were asked for."""
        return self.asked.complete and len(self.used) == len(self.asked.conditions)

    def statement(self, tail: str = "", *, approximate: bool = False) -> Statement:
        """What was written down."""
        schema = self.keys.layout.schema
        named = {*self.asked.columns, self.keys.partition[0]}
        # A partition without rows shows itself only where what is static is asked for.
        columns = tuple(c.name for c in schema.columns if c.name in named or c.shared)
        text = f"SELECT {', '.join(map(quoted, columns))} FROM {quoted_table(schema.table)}"  # noqa: S608 - quoted names
        where = f" WHERE {' AND '.join(self.parts)}" if self.parts else ""
        values = tuple(self.values)
        return Statement(f"{text}{where}{tail}", columns, values, self.empty, approximate)


def translated(asked: Lookup, keys: Keys) -> Statement:
    """The question in CQL. Raises LookupRefused, which names what is missing."""
    made = _Asked(asked, keys)
    fixed = {name: found for name in keys.partition if (found := made.equal(name)) is not None}
    if len(fixed) == len(keys.partition):
        return _by_key(made, list(fixed.values()))
    if asked.nearest is not None:
        return _nearest(made, asked.nearest)
    if _by_index(made):
        limit = _limit(asked) if made.whole and not asked.order else ""
        return made.statement(limit)
    missing = [name for name in keys.partition if name not in fixed]
    raise LookupRefused(
        f"{asked.table}: CQL needs {' and '.join(missing)} of the partition key "
        f"({', '.join(keys.partition)}) to be equal to constants, or a column with an index; "
        "all else would read the whole table"
    )


def _by_key(made: _Asked, fixed: list[tuple[int, Condition]]) -> Statement:
    """Of whole partitions, which the conditions fix, or a range of their rows."""
    keys = made.keys
    partitions = count = prod(made.fix(*each) for each in fixed)
    single = set()
    for name, _ in keys.clustering:
        found = made.equal(name)
        if found is None:
            made.bound(name)
            break
        several = made.fix(*found)
        count *= several
        if several == 1:
            single.add(name)
    if count > PARTITIONS_MAX:
        raise LookupRefused(
            f"{made.asked.table}: {count} keys in one statement, and CQL is asked for "
            f"{PARTITIONS_MAX} at most; ask for fewer"
        )
    order = _order(made, single) if partitions == 1 and count == 1 else None
    if made.asked.nearest is not None or not made.whole or order is None:
        return made.statement()
    return made.statement(order + _limit(made.asked))


def _order(made: _Asked, single: set[str]) -> str | None:
    """ORDER BY as the rows lie in their partition, or the other way; None: otherwise."""
    wanted = [term for term in made.asked.order if term[0] not in {*made.keys.partition, *single}]
    if not wanted:
        return ""
    lying = [term for term in made.keys.clustering if term[0] not in single]
    if [name for name, _ in wanted] != [name for name, _ in lying[: len(wanted)]]:
        return None
    turned = {a[1] is not b[1] for a, b in zip(wanted, lying, strict=False)}
    if len(turned) > 1 or any(made.type_(name) not in ORDERED for name, _ in wanted):
        return None
    (turn,) = turned
    # Fixed columns are named, too: CQL wants them from the first on.
    upto = [name for name, _ in made.keys.clustering].index(wanted[-1][0]) + 1
    terms = [
        f"{quoted(name)} {'DESC' if descending is not turn else 'ASC'}"
        for name, descending in made.keys.clustering[:upto]
    ]
    return f" ORDER BY {', '.join(terms)}"


def _limit(asked: Lookup) -> str:
    limit = asked.limit
    if isinstance(limit, Later):
        return " LIMIT ?"  # only told: it has a value when it is asked
    return f" LIMIT {limit}" if isinstance(limit, int) and 0 < limit < 2**31 else ""


def _by_index(made: _Asked) -> bool:
    """Write down what indexes serve: all storage-attached ones, or one of another kind."""
    attached: list[int] = []
    others: list[int] = []
    for at, each in enumerate(made.asked.conditions):
        column = made.keys.layout.schema.column(each.column)
        index = made.keys.index(each.column)
        if index is None or each.operator != "=" or len(set(each.values)) != 1:
            continue
        if made.type_(each.column) not in EQUAL or column is None or column.shared:
            continue
        if each.column in {*made.keys.partition, *(name for name, _ in made.keys.clustering)}:
            continue
        if any(each.column == made.asked.conditions[other].column for other in attached):
            continue
        (attached if index.attached else others).append(at)
    for at in attached or others[:1]:
        made.fix(at, made.asked.conditions[at])
    if any(value is not None and not 0 < len(value) <= _TERM_BYTES_MAX for value in made.values):
        raise LookupRefused(
            f"{made.asked.table}: a value that an index may not hold (empty, or more than "
            f"{_TERM_BYTES_MAX} bytes)"
        )
    return bool(made.used)


def _nearest(made: _Asked, nearest: Nearest) -> Statement:
    """The nearest vectors as an index finds them: it may miss some."""
    asked, index = made.asked, made.keys.index(nearest.column)
    of = f"{asked.table}: the nearest of {nearest.column}"
    wanted = _SIMILARITY[nearest.operator]
    if index is None or not index.attached:
        raise LookupRefused(f"{of} need a storage-attached index (SAI) of {nearest.column}")
    if index.similarity not in wanted:
        raise LookupRefused(
            f"{of} by {nearest.operator} need an index with similarity_function "
            f"{wanted[0]}; its own is {index.similarity}"
        )
    limit = asked.limit
    if limit is None or (isinstance(limit, int) and not 0 < limit <= NEAREST_MAX):
        raise LookupRefused(f"{of} need a LIMIT from 1 to {NEAREST_MAX}")
    _by_index(made)
    if not made.whole:
        raise LookupRefused(
            f"{of} can only be filtered by columns with a storage-attached index, for equality"
        )
    given = nearest.vector
    made.empty = made.empty or given is None
    made.values.append(vector(given) if isinstance(given, str) else None)
    tail = f" ORDER BY {quoted(nearest.column)} ANN OF ?"
    return made.statement(f"{tail}{_limit(asked)}", approximate=True)
