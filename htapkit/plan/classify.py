"""What a statement is before anybody looks at tables: its kind, and what relaying it may change.

Decided on tokens and on the AST. Whatever is not recognised is OTHER: an open transaction then
stays at the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from htapkit.plan.harmless import HARMLESS
from htapkit.plan.parse import calls_of, tokens_of
from htapkit.plan.plan import Effect, SetOption, ShowOption

PREFIX = "htapkit"
_WRITERS = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.DDL, exp.Command, exp.Into, exp.Lock)
_SIMPLE: dict[str, Effect] = {
    "commit": Effect.END,
    "end": Effect.END,
    "abort": Effect.END,
    "rollback": Effect.END,
    "set": Effect.SETTINGS,
    "reset": Effect.SETTINGS,
    "discard": Effect.SETTINGS,
    "show": Effect.READ,
}
_HARMLESS_MODES = frozenset(
    {
        "read",
        "only",
        "write",
        "committed",
        "isolation",
        "level",
        "not",
        "deferrable",
        "work",
        "transaction",
    }
)


def words_of(tokens: Sequence[Token]) -> list[str]:
    """The tokens' texts in lower case; an unknown command's rest is one token to sqlglot."""
    words: list[str] = []
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            continue
        if token.token_type is TokenType.STRING and len(words) == 1:
            words.extend(piece.text.lower() for piece in tokens_of(token.text) or [])
        else:
            words.append(token.text.lower())
    return words


def command_effect(words: Sequence[str]) -> Effect | None:
    """The effect of a transaction or settings command; None for everything else."""
    first = words[0] if words else ""
    if first == "begin" or words[:2] == ["start", "transaction"]:
        rest = {word for word in words[1:] if word != ","}
        harmless = rest <= _HARMLESS_MODES and "uncommitted" not in rest
        return Effect.BEGIN if harmless else Effect.OTHER
    if words in (["reset", "all"], ["discard", "all"]):
        return Effect.RESET
    effect = _SIMPLE.get(first)
    if effect is Effect.END and ({"to", "savepoint", "prepared", "chain"} & set(words)):
        return Effect.OTHER
    if (
        effect is Effect.SETTINGS
        and first == "set"
        and words[1:2] in (["transaction"], ["constraints"])
    ):
        return Effect.OTHER
    if effect is Effect.SETTINGS and {"characteristics"} & set(words):
        return Effect.OTHER
    return effect


def option(words: Sequence[str], texts: Sequence[str]) -> SetOption | ShowOption | None:
    """SET, RESET or SHOW of an option of ours, whose name has our prefix."""
    first, rest = words[0], list(words[1:])
    values = list(texts[1:])
    local = False
    if first == "set" and rest[:1] and rest[0] in {"local", "session"} and rest[1:2] == [PREFIX]:
        local = rest[0] == "local"
        rest, values = rest[1:], values[1:]
    if rest[:2] != [PREFIX, "."] or len(rest) < 3:
        return None
    name = rest[2]
    if first == "show" and len(rest) == 3:
        return ShowOption(name)
    if first == "reset" and len(rest) == 3:
        return SetOption(name, None)
    if first == "set" and len(rest) >= 5 and rest[3] in {"=", "to"}:
        value = "".join(values[4:])
        return SetOption(name, None if rest[4] == "default" and len(rest) == 5 else value, local)
    return None


def unknown_calls(tokens: Sequence[Token], tree: exp.Expression) -> list[str]:
    """Calls that are not known to be harmless; column lists of aliases are not calls."""
    lists = Counter(
        str(alias.this.this).lower()
        for alias in tree.find_all(exp.TableAlias)
        if isinstance(alias.this, exp.Identifier) and alias.args.get("columns")
    )
    unknown = []
    for name in calls_of(list(tokens)):
        if lists[name.lower()] > 0:
            lists[name.lower()] -= 1
        elif name not in HARMLESS:
            unknown.append(name)
    return unknown


def query_effect(tree: exp.Expression, unknown: Sequence[str]) -> Effect:
    """READ where nothing in the statement writes, locks or calls what nobody knows."""
    if "set_config" in unknown:
        return Effect.SETTINGS if set(unknown) == {"set_config"} else Effect.OTHER
    if not isinstance(tree, (exp.Query, exp.Values)) or unknown:
        return Effect.OTHER
    if any(True for _ in tree.find_all(*_WRITERS)):
        return Effect.OTHER
    return Effect.READ
