"""Which of a table's columns a relation message lists, though it does not number them. Pure.

A relation message lists what the table had when the rows behind it were written, by name, in the
order of the columns' numbers; the catalog is asked later and may be ahead. A name proves little:
columns are renamed, and names are used again. Numbers only grow and are never used again, so from
what the stream has shown and what the catalog says there are few ways to number the message. Rows
are decoded only where all of these ways agree with the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from htapkit.model import Column, TableSchema
from htapkit_postgres.pgoutput import RelationColumn
from htapkit_postgres.types import FIRST_USER_OID


@dataclass(frozen=True, slots=True)
class Shown:
    """What a table had at some moment."""

    columns: Mapping[int, Column]  # by number
    highest: int  # numbers up to it that are not in `columns` are those of dropped columns

    @classmethod
    def of(cls, schema: TableSchema, highest: int = 0) -> Shown:
        """A table that is all shown. `highest` counts columns that were dropped before, too."""
        columns = {column.ordinal: column for column in schema.columns}
        return cls(columns, max([highest, *columns]))

    def after(self, given: Sequence[RelationColumn], schema: TableSchema) -> Shown:
        """With a message that certainly reads as `schema`."""
        names = {column.name for column in given}
        present = {c.ordinal: c for c in schema.columns if c.name in names}
        if len(present) == len(given):
            return Shown(present, max([self.highest, *present]))
        # What else it lists may be any column that `schema` has no more, also one made since.
        return Shown({**self.columns, **present}, self.highest)


def reads_as(
    given: Sequence[RelationColumn], shown: Shown, now: Shown, schema: TableSchema
) -> bool:
    """Whether each column of `schema` is certainly the one of its name, or certainly not there.

    `shown` is the table at or before the message, and `now` after it, with its true `highest`.
    """
    places = {column.name: place for place, column in enumerate(given)}
    wanted = {column.ordinal: places.get(column.name) for column in schema.columns}
    described = {column.ordinal: column for column in schema.columns}
    made = range(shown.highest + 1, now.highest + 1)
    numbers = sorted({*shown.columns, *now.columns, *described, *made})
    # One pass over the numbers; of each way to use up the message, what can still matter: how many
    # of its columns have their number, whether later columns were not yet made, and whether the
    # names say otherwise.
    ways = {(0, False, False)}
    for number in numbers:
        known = [c[number] for c in (shown.columns, now.columns, described) if number in c]
        is_new = number not in shown.columns
        then = set()
        for at, at_end, differs in ways:
            if at < len(given) and not at_end and _fits(given[at], known):
                off = number in wanted and wanted[number] != at
                then.add((at + 1, False, differs or off))
            if is_new or number not in now.columns:
                off = wanted.get(number) is not None
                then.add((at, at_end or (is_new and number in now.columns), differs or off))
        ways = then
    return {differs for at, _, differs in ways if at == len(given)} == {False}


def _fits(given: RelationColumn, known: Sequence[Column]) -> bool:
    """Whether a column of these descriptions may be that of the message.

    A column has the number of its domain's base type, the message that of the domain itself.
    """
    is_users = given.type_oid >= FIRST_USER_OID
    return is_users or not known or any(given.type_oid == c.type.oid for c in known)
