"""Identifiers: PostgreSQL's folding, and the function that quotes. It looks nothing up."""

from __future__ import annotations

import string

from sqlglot import exp

from htapkit.plan.unproven import UnprovenError

IDENTIFIER_BYTES_MAX = 63
"""PostgreSQL cuts longer identifiers; what it then means is its own business."""

_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def quote(name: str) -> str:
    """The identifier in double quotes, as both engines read it."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """A string literal, as both engines read it (no backslash escapes)."""
    return "'" + value.replace("'", "''") + "'"


def folded(identifier: exp.Expression | str | None) -> str:
    """The name that PostgreSQL sees: unquoted ASCII letters in lower case."""
    if not isinstance(identifier, exp.Identifier):
        raise UnprovenError(str(identifier), "not a plain identifier")
    name = str(identifier.this)
    if len(name.encode()) > IDENTIFIER_BYTES_MAX:
        raise UnprovenError(name, "identifiers over 63 bytes are cut by the source")
    return name if identifier.args.get("quoted") else name.translate(_FOLD)
