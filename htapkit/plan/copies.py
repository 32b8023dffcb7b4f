"""COPY (SELECT …) TO STDOUT: the query that it has, and the form in which its rows are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot.tokenizer_core import Token, TokenType

from htapkit.plan.parse import tokens_of
from htapkit.plan.plan import CopyFormat, CopyOut

_DELIMITERS = frozenset(",;|\t")
_TEXTS = frozenset({TokenType.STRING, TokenType.BYTE_STRING})
_QUOTED = _TEXTS | {
    TokenType.IDENTIFIER,
    TokenType.UNICODE_STRING,
    TokenType.NATIONAL_STRING,
    TokenType.HEREDOC_STRING,
}
_ODD = "\0"  # a value of which nothing is known
_SWITCHES = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def copy_out(sql: str) -> CopyOut | None:
    """What a text copies to the client.

    None: it does nothing of this kind, or wants what only the source does (QUOTE, ESCAPE,
    ENCODING, FORCE_QUOTE, rare delimiters, and whatever is an error there).
    """
    if sql.lstrip()[:4].lower() != "copy":
        return None
    tokens = tokens_of(sql) or []
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    end = _closing(tokens, 1)
    if not end or _words([tokens[0], *tokens[end + 1 : end + 3]]) != ["copy", "to", "stdout"]:
        return None
    options = _options(tokens[end + 3 :])
    query = sql[tokens[1].end + 1 : tokens[end].start]
    return None if options is None else _form(query, options)


def _form(query: str, options: Sequence[tuple[str, str]]) -> CopyOut | None:
    given = dict(options)
    known = given.keys() <= {"format", "header", "delimiter", "null"} and _ODD not in given.values()
    header = _SWITCHES.get(given.get("header", "false"))
    name = given.get("format", "text")
    if not known or len(given) < len(options) or header is None or name not in set(CopyFormat):
        return None
    form = CopyOut(query, CopyFormat(name), header, given.get("delimiter", ""), given.get("null"))
    if form.format is CopyFormat.BINARY:
        return form if len(given) == 1 else None
    if "delimiter" in given and form.delimiter not in _DELIMITERS:
        return None
    shown = form.null or ""
    plain = shown.isascii() and shown.isprintable() and not _DELIMITERS & set(shown)
    return form if plain and '"' not in shown else None


def _options(tokens: Sequence[Token]) -> list[tuple[str, str]] | None:
    """(name, value) of each option, in either of COPY's two ways to write them."""
    if _words(tokens[:1]) == ["with"]:
        tokens = tokens[1:]
    if not tokens or tokens[0].token_type is not TokenType.L_PAREN:
        return list(_in_words(tokens))
    if _closing(tokens, 0) != len(tokens) - 1:
        return None
    found, last = [], 0
    for at, token in enumerate(tokens):
        if token.token_type is TokenType.COMMA or at == len(tokens) - 1:
            option, last = tokens[last + 1 : at], at
            name = _words(option[:1])
            if not name or len(option) > 2:
                return None
            alone = "true" if name == ["header"] else _ODD
            found.append((name[0], _value(option[1]) if len(option) == 2 else alone))
    return found


def _in_words(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """As before PostgreSQL 9.0, and as people still write it: CSV HEADER."""
    rest = list(tokens)
    while rest:
        name = _value(rest.pop(0))
        if name in {"binary", "csv"}:
            yield "format", name
        elif name == "header":
            yield name, "true"
        else:
            if _words(rest[:1]) == ["as"]:
                rest.pop(0)
            yield name, _value(rest.pop(0)) if rest else _ODD


def _value(token: Token) -> str:
    if token.token_type in _TEXTS:
        return token.text
    return (_words([token]) or [_ODD])[0]


def _words(tokens: Sequence[Token]) -> list[str]:
    """What is written without quotes, as PostgreSQL reads it."""
    plain = (token for token in tokens if token.text.isascii() and token.text.isalnum())
    return [token.text.lower() for token in plain if token.token_type not in _QUOTED]


def _closing(tokens: Sequence[Token], begin: int) -> int | None:
    """Where the parenthesis that opens at `begin` ends; None: none opens, or it never ends."""
    if len(tokens) <= begin or tokens[begin].token_type is not TokenType.L_PAREN:
        return None
    depth = 0
    for at in range(begin, len(tokens)):
        depth += tokens[at].token_type is TokenType.L_PAREN
        depth -= tokens[at].token_type is TokenType.R_PAREN
        if not depth:
            return at
    return None
