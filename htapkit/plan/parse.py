"""From text to AST, with PostgreSQL's words kept as they were written.

sqlglot gives many functions of many databases one common node; that would make `nvl` PostgreSQL's
`coalesce`, and `date_part` its `extract`. Here every call keeps its own name (`exp.Anonymous`),
save the few whose syntax needs a parser.
"""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.generators.postgres import PostgresGenerator
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import Token, TokenType

_FIELDS = frozenset({"year", "month", "day", "hour", "minute", "second"})
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_SYNTAX = ("CAST", "EXTRACT", "OVERLAY", "POSITION", "SUBSTRING", "TRIM")

# Statements that sqlglot does not know are a normal thing here, not worth a warning each.
logging.getLogger("sqlglot").addFilter(
    lambda record: "Falling back to parsing" not in record.getMessage()
)


class CosineDistance(exp.Expression, exp.Binary):
    """`a <=> b`, which is not MySQL's equality."""


class InnerProduct(exp.Expression, exp.Binary):
    """`a <#> b`: the negative one."""


class Source(Postgres):
    """PostgreSQL's dialect without anybody else's functions and operators."""

    class Tokenizer(Postgres.Tokenizer):
        """With the operators of vectors, under tokens that PostgreSQL has no use for."""

        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            **{k: v for k, v in Postgres.Tokenizer.KEYWORDS.items() if k != "<<->>"},
            "<#>": TokenType.LLRR_ARROW,
        }

    class Generator(PostgresGenerator):
        """With the same operators."""

        TRANSFORMS: ClassVar[dict[type[exp.Expr], Any]] = {
            **PostgresGenerator.TRANSFORMS,
            CosineDistance: lambda self, node: self.binary(node, "<=>"),
            InnerProduct: lambda self, node: self.binary(node, "<#>"),
        }

    class Parser(PostgresParser):
        """Calls become `exp.Anonymous`."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        EQUALITY: ClassVar[dict[TokenType, Any]] = {
            token: node
            for token, node in PostgresParser.EQUALITY.items()
            if token is not TokenType.NULLSAFE_EQ
        }
        FACTOR: ClassVar[dict[TokenType, Any]] = {
            **PostgresParser.FACTOR,
            TokenType.NULLSAFE_EQ: CosineDistance,
            TokenType.LLRR_ARROW: InnerProduct,
        }
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser
            for name, parser in PostgresParser.FUNCTION_PARSERS.items()
            if name in _SYNTAX
        }

        def _parse_interval_span(
            self,
            this: exp.Expr,
            parse_function_unit: bool = True,  # noqa: FBT001, FBT002 - as it is called
        ) -> exp.Interval:
            """An interval's text stays as it was: sqlglot would drop what it does not know."""
            if not isinstance(this, exp.Literal) or not this.is_string:
                self.raise_error("an interval of something else than a text")
            following = self._curr
            quoted = following is not None and following.token_type is TokenType.IDENTIFIER
            if following is None or quoted or following.text.lower() not in _FIELDS:
                return exp.Interval(this=this.copy())  # what follows is a name, if anything
            whole, begin = this.copy(), self._index
            span = super()._parse_interval_span(this, parse_function_unit)
            if self._index == begin:
                following = self._curr
                if following is not None and following.text.lower() in _FIELDS:
                    self.raise_error("an interval cut to a field")
                return exp.Interval(this=whole)
            if not _WHOLE_NUMBER.fullmatch(whole.name) or not isinstance(span.unit, exp.Var):
                self.raise_error("an interval cut to a field")
            span.set("this", whole)
            return span


_DIALECT = Source()

_KEYWORDS = """
all and any array as between by case cast check distinct else except exists extract filter from
group grouping having in intersect is join lateral like ilike limit materialized not offset on
only or order over overlay partition recursive returning row select set sets cube rollup some
substring table then to union using values when where window with within position trim both
leading trailing recursive escape numeric decimal dec varchar char character bpchar timestamp
timestamptz time float bit varying interval
"""

_WORDS = frozenset(_KEYWORDS.split())
"""Words before a parenthesis that are not a function's name."""


def tokens_of(sql: str) -> list[Token] | None:
    """The tokens, or None where the text cannot be read."""
    try:
        return list(_DIALECT.tokenize(sql))
    except SqlglotError:
        return None


def trees_of(tokens: list[Token], sql: str) -> list[exp.Expression]:
    """The statements of the text that are understood; none where one of them is not."""
    try:
        found = _DIALECT.parser().parse(tokens, sql)
    except (SqlglotError, RecursionError):
        return []
    return [tree for tree in found if isinstance(tree, exp.Expression)]


def statement_of(tokens: list[Token], sql: str) -> exp.Expression | None:
    """The one statement of the text, or None: not understood."""
    trees = trees_of(tokens, sql)
    return trees[0] if len(trees) == 1 else None


def statement_count(tokens: list[Token]) -> int:
    """How many statements there are, by their semicolons."""
    count, empty = 0, True
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            count, empty = count + (not empty), True
        else:
            empty = False
    return count + (not empty)


def calls_of(tokens: list[Token]) -> list[str]:
    """Every folded name before a parenthesis; other schemas' with a dot."""
    calls = []
    for at, token in enumerate(tokens[:-1]):
        if tokens[at + 1].token_type is not TokenType.L_PAREN:
            continue
        if at and tokens[at - 1].token_type is TokenType.DCOLON:
            continue  # a type with a modifier
        quoted = token.token_type is TokenType.IDENTIFIER
        name = token.text if quoted else token.text.lower()
        if not quoted and (
            name in _WORDS or " " in name or not (name[:1].isalpha() or name[:1] == "_")
        ):
            continue
        if at >= 2 and tokens[at - 1].token_type is TokenType.DOT:
            schema = tokens[at - 2].text.lower()
            if schema != "pg_catalog":
                name = f"{schema}.{name}"
        calls.append(name)
    return calls


def source_text(node: exp.Expression) -> str:
    """An expression in PostgreSQL's words."""
    return node.sql(dialect=_DIALECT, normalize_functions=False)
