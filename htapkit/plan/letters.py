"""`lower`, `upper` and ILIKE: what the letters of a text become depends on its collation.

Of a text that is not ordered by its bytes, the source is asked once what it makes of ASCII letters
under that collation, and of all others that Unicode has in planes 0 and 1, where all letters with
two cases are. ASCII's must become what they do everywhere. A text with other letters is an error,
unless it is only compared with a constant of ASCII: then the others need not become the same here,
if they never become ASCII.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from htapkit.plan import casts
from htapkit.plan.context import Context
from htapkit.plan.expr import Cased, Expr, refused
from htapkit.plan.names import quote_text
from htapkit.plan.operators import comparable, guard, texts
from htapkit.plan.plan import Probe
from htapkit.plan.types import TEXTS
from htapkit.plan.unproven import UnprovenError

CASES = frozenset({"lower", "upper"})
TWINS = {
    "lower": "\u0130\u212a",  # dotted I, and the kelvin
    # ligatures become two, and the dot above is gone after a Lithuanian i
    "upper": "\u0131\u017f\u00df\u0307\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06",
}
"""The letters beyond ASCII that some collation makes ASCII's of."""
_ASCII = "".join(map(chr, range(32, 127)))
_LETTER_MAX = 0x1FFFF


def cased(context: Context, name: str, nodes: list[exp.Expression]) -> Expr:
    """`lower(text)` and `upper(text)`. Raises UnprovenError."""
    arguments = [context(node) for node in nodes]
    if len(arguments) != 1 or arguments[0].type not in TEXTS | {"unknown"} - {"name"}:
        raise refused(name, arguments)
    return _cased(context, name, arguments[0])


def beside(value: Expr, constant: Expr) -> Expr:
    """What is compared with a constant."""
    if constant.constant and constant.text is not None and constant.text.isascii():
        return value.beside_ascii()
    return value


def matched(context: Context, value: Expr, pattern: str) -> Expr:
    """The text whose LIKE of the lower pattern is ILIKE. Raises UnprovenError."""
    if not pattern.isascii():
        raise UnprovenError("ILIKE", "letters beyond ASCII in its pattern", by_value=True)
    plain = replace(value, type="text", typmod=-1)
    return _cased(context, "lower", plain).beside_ascii(places=True)


def _cased(context: Context, name: str, argument: Expr) -> Expr:
    comparable(argument, f"{name}({argument.type})", order=False)
    if not argument.binary:
        _ask(context, name, argument)
    value = casts.coerce(argument, "text", utc=False)
    made = f"{name}({value.sql})"
    foreign = f"strlen({value.sql}) <> length({value.sql})"
    twins = " OR ".join(f"contains({value.sql}, {quote_text(each)})" for each in TWINS[name])
    shown = guard(foreign, made, "letters beyond ASCII")
    compared = guard(twins, made, "letters that become those of ASCII")
    cased_as = Cased(shown, compared, places=name == "lower")
    return replace(texts(shown, value), cased=cased_as, doubtful=True)


def _ask(context: Context, name: str, value: Expr) -> None:
    """What is ordered by its bytes has letters as ASCII or Unicode have them; of others ask."""
    statement = context.statement
    if any(table.source != statement.session.source for table in statement.access):
        raise UnprovenError(f"{name}({value.type})", "letters of a collation of another source")
    statement.probe(_probe(name, value))


def _probe(name: str, value: Expr) -> Probe:
    """What the source must make of letters under the text's collation."""
    collation = f" COLLATE {value.collate}" if value.collate else ""
    made = f"{name}(chr(n){collation})"
    if name == "lower":  # one letter of each, so that the places in a pattern stay the same
        strange = f"(length({made}) <> 1 OR ascii({made}) < 128)"
    else:
        strange = f"octet_length({made}) = length({made})"
    twins = ", ".join(str(ord(each)) for each in TWINS[name])
    return Probe(
        # In another encoding chr() would be an error, and so the statement's.
        "SELECT CASE getdatabaseencoding() WHEN 'UTF8' THEN "  # noqa: S608 - quoted names
        f"{name}({quote_text(_ASCII)}{collation}) || (SELECT count(*) "
        f"FROM generate_series(128, {_LETTER_MAX}) AS n "
        f"WHERE n NOT BETWEEN 55296 AND 57343 AND n NOT IN ({twins}) AND {strange}) END",
        getattr(_ASCII, name)() + "0",
    )
