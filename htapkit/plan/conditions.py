"""A condition on the rows of one table, given by itself, as a statement over them."""

from __future__ import annotations

from sqlglot import exp

from htapkit.errors import ConfigError
from htapkit.model import ARCHIVE, NUMBER, TableId, origin_of
from htapkit.plan.names import quote
from htapkit.plan.parse import statement_of, tokens_of

_PARTS = frozenset({"expressions", "from", "from_", "where", "kind"})


def counting(table: TableId, condition: str, further: str = "") -> str:
    """How many rows of a table, or of an archive, meet the condition.

    And `further`, which is SQL that is known to be good. Raises ConfigError where the condition is
    not one, or looks at something else than the table.
    """
    of = origin_of(table) if table.source == ARCHIVE else None
    text = _selecting("count(*)", of or table, condition, f"{ARCHIVE}." if of else "")
    return text + (f" AND {further}" if further else "")


def archived(table: TableId, condition: str) -> str:
    """The numbers of the archived rows of the table that meet the condition. Raises ConfigError."""
    return _selecting(quote(NUMBER), table, condition, f"{ARCHIVE}.")


def _selecting(what: str, table: TableId, condition: str, catalog: str = "") -> str:
    relation = f"{catalog}{quote(table.schema)}.{quote(table.name)}"
    text = f"SELECT {what} FROM {relation} WHERE ({condition}\n)"  # noqa: S608 - checked below
    tokens = tokens_of(text)
    tree = statement_of(tokens, text) if tokens is not None else None
    where = tree.args.get("where") if isinstance(tree, exp.Select) else None
    if tree is None or where is None or not isinstance(where.this, exp.Paren):
        raise ConfigError(f"where: {condition!r} is not a condition, such as user_id = 17")
    if any(value and name not in _PARTS for name, value in tree.args.items()):
        raise ConfigError(f"where: {condition!r} is more than a condition")
    if len(list(tree.find_all(exp.Query))) > 1:
        raise ConfigError(f"where: only columns of {table} can be named, no other query")
    return text
