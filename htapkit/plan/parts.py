"""Which statements can be read in parts: those whose rows are one table's, each by itself.

For such a statement the hot rows of the table come from a view, as its lake rows do, so that each
of several reads of one moment can be given a part of them.
"""

from __future__ import annotations

from sqlglot import exp

_CLAUSES = frozenset({"expressions", "from_", "where"})


def divisible(tree: exp.Expression) -> bool:
    """Whether parts of the table give parts of the rows, each row in exactly one of them."""
    if not isinstance(tree, exp.Select):
        return False
    if not {name for name, value in tree.args.items() if value} <= _CLAUSES:
        return False
    if tree.args.get("from_") is None:
        return False
    source = tree.args["from_"].this
    if not isinstance(source, exp.Table) or source.args.get("joins"):
        return False
    if not all(isinstance(each.unalias(), exp.Column | exp.Star) for each in tree.expressions):
        return False
    where = tree.args.get("where")
    return where is None or where.find(exp.Query, exp.Subquery, exp.Exists) is None
