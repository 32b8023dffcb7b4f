"""A statement's text without its literals: the key under which like statements share a decision.

This is a scanner, not a parser: it finds where literals begin and end, and where it cannot be
sure (dollar quotes, escape strings, comments) it gives None.
"""

from __future__ import annotations

import re

_LITERAL = re.compile(
    r"""("(?:[^"]|"")*")          # a quoted identifier, kept
    |(?<![\w$"'&])'(?:[^'\\]|'')*'(?!')   # a plain string
    |(?<![\w$.])(\d+(?:\.\d+)?)(?![\w.$])  # a plain number
    |(--|/\*|\$\w*\$|[eEuUbBxXnN]&?'|')   # anything that makes the text hard to scan
    """,
    re.VERBOSE,
)


class _Unclear(Exception):
    pass


def _placeholder(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1]
    if found[3] is not None:
        raise _Unclear
    return "\x000" if found[2] is not None else "\x00s"


def skeleton(sql: str) -> str | None:
    """The text with a mark for each literal, by kind; None where the scanner is not sure."""
    if "\x00" in sql:
        return None
    try:
        return _LITERAL.sub(_placeholder, sql)
    except _Unclear:
        return None
