"""A statement's text without its literals: the key under which like statements share a decision.

This is a scanner, not a parser: it finds where literals begin and end, and where it cannot be
sure (dollar quotes, escape strings, comments) it gives None.
"""

from __future__ import annotations

import re

# It begins with one set of characters, so that the scanner skips all others at once.
_LITERAL = re.compile(
    r"""["'\d/$-](?:
        (?<=")(?:[^"]|"")*"                              # a quoted identifier, kept
        |(?<=')(?<![\w$"'&]')(?:[^'\\]|'')*'(?!')        # a plain string
        |(?<=\d)(?<![\w$.]\d)\d*(?:\.\d+)?(?![\w.$])     # a plain number
        |(?<=-)-|(?<=/)\*|(?<=\$)\w*\$|(?<=')            # what makes the text hard to scan
    )""",
    re.VERBOSE,
)


class _Unclear(Exception):
    pass


def _placeholder(found: re.Match[str]) -> str:
    text = found[0]
    first = text[0]
    if first == '"':
        return text
    if first == "'" and len(text) > 1:
        return "\x00s"
    if first in "'-/$":
        raise _Unclear
    return "\x000"


def skeleton(sql: str) -> str | None:
    """The text with a mark for each literal, by kind; None where the scanner is not sure."""
    if "\x00" in sql:
        return None
    try:
        return _LITERAL.sub(_placeholder, sql)
    except _Unclear:
        return None


_WORD = re.compile(r"\s*([A-Za-z]+)")
_NUMBER = re.compile(r"(?<![\w$])\.?\d[\w.]*")


def without_values(text: str) -> str:
    """The text for people, with `?` for each literal; only its first word where that is unsure."""
    shape = skeleton(text)
    if shape is None:
        word = _WORD.match(text)
        return f"{word[1]} …" if word else "…"
    # The key of a decision keeps numbers that it cannot be sure of, such as 1e5.
    return _NUMBER.sub("?", shape.replace("\x00s", "?").replace("\x000", "?"))
