"""Random expressions and conditions by type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sql_fuzz_values import LITERALS

if TYPE_CHECKING:
    from tests.sql_fuzz import Grammar
    from tests.sql_fuzz_words import Column

_UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
_PARTS = ("year", "month", "day", "dow", "isodow", "doy", "week", "quarter", "isoyear")
_SPANS = ("1 day", "3 months", "1 year", "2 weeks", "36 hours", "1 month 1 day")
_CHARS = (
    "YYYY-MM", "YYYY-MM-DD", "IYYY-IW", "YYYY-MM-DD HH24:MI:SS.US", "FMMonth", "Day", "MON Dy", "Q",
    "DD/MM/YY HH12", "DDD ID", "FMDD.FMMM", "TMMonth", "J", "YYYY\"x\"", "HH24:MI",
)  # fmt: skip
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "CET")
_BINS = ("15 min", "1 hour", "7 days", "36 hours", "1 day 00:00:01", "1 month")
_PATTERNS = ("a%", "%e%", "_o%", "%", "note _", "Customer 0%", "%o\\_%", "")
_COMPARED = ("=", "<>", "<", "<=", ">", ">=", "=", "!=")
_NUMBERS = ("int2", "int4", "int8", "numeric", "float4", "float8")
_COMPARABLE = (
    "int2",
    "int4",
    "int8",
    "numeric",
    "float4",
    "float8",
    "text",
    "varchar",
    "bpchar",
    "date",
    "timestamp",
    "timestamptz",
)


def condition(g: Grammar, columns: list[Column], depth: int) -> str:
    """A condition."""
    if depth > 0 and g.chance(0.45):
        left, right = condition(g, columns, depth - 1), condition(g, columns, depth - 1)
        joined = f"({left} {g.pick('AND', 'AND', 'OR')} {right})"
        return f"NOT {joined}" if g.chance(0.15) else joined
    column = g.random.choice(columns)
    type_ = column.type if column.type in _COMPARABLE else g.pick(*_COMPARABLE)
    value = expression(g, type_, columns, depth) if g.chance(0.4) else g.leaf(type_, columns)
    kind = g.random.randint(0, 9)
    if kind == 0:
        return f"{column.sql} IS {g.pick('', 'NOT ')}NULL"
    if kind == 1:
        bare = type_ in _NUMBERS and g.chance(0.4)  # numbers of any type, as people write them
        kinds = ("int4", "numeric") if bare else (type_,)
        types = [g.pick(*kinds) for _ in range(g.random.randint(1, 4))]
        listed = ", ".join(map(g.literal, types))
        if g.chance(0.15):
            listed += ", NULL"
        return f"{value} {g.pick('', 'NOT ')}IN ({listed})"
    if kind == 2:
        low, high = g.leaf(type_, columns), g.leaf(type_, columns)
        return f"{value} {g.pick('', 'NOT ')}BETWEEN {low} AND {high}"
    if type_ in ("text", "varchar", "bpchar") and g.chance(0.15):
        value = f'{column.sql if column.type == type_ else g.leaf(type_, columns)} COLLATE "C"'
    if kind == 3 and type_ in ("text", "varchar", "bpchar"):
        return f"{value} {g.pick('LIKE', 'NOT LIKE', 'ILIKE')} '{g.pick(*_PATTERNS)}'"
    if kind == 4:
        return f"{value} IS {g.pick('', 'NOT ')}DISTINCT FROM {g.leaf(type_, columns)}"
    if kind == 8 and g.chance(0.4):
        listed = ",".join(_in_braces(g, type_) for _ in range(g.random.randint(0, 4)))
        word = g.pick("= ANY", "= ANY", "<> ALL")
        return f"{value} {word} ({g.array(type_, listed, lambda: _in_braces(g, type_))})"
    if kind == 5:
        flag = g.leaf("bool", columns)
        return g.pick(flag, f"NOT {flag}", f"{flag} IS NOT TRUE", f"{flag} IS UNKNOWN")
    if kind == 6 and type_ in _NUMBERS:
        other = g.pick(*_NUMBERS)
        return f"{value} {g.pick(*_COMPARED)} {g.leaf(other, columns)}"
    if kind == 7 and type_ in ("date", "timestamp", "timestamptz"):
        other = g.pick("date", "timestamp", "timestamptz")
        return f"{value} {g.pick(*_COMPARED)} {g.leaf(other, columns)}"
    return f"{value} {g.pick(*_COMPARED)} {g.leaf(type_, columns)}"


def _in_braces(g: Grammar, type_: str) -> str:
    """An element of an array's literal."""
    if g.chance(0.1):
        return g.pick("NULL", "null")
    text = g.random.choice(LITERALS[type_]).replace("'", "''")
    return f'"{text}"' if not text or g.chance(0.3) else text


def _of_document(g: Grammar, columns: list[Column]) -> str:
    """A text of a document, where a table has one."""
    found = [column.sql for column in columns if column.type == "jsonb"]
    if not found:
        return _leaf_text(g, columns)
    return f"({g.random.choice(found)} ->> '{g.pick('a', 'a', 'b', 'c')}')"


def expression(g: Grammar, type_: str, columns: list[Column], depth: int) -> str:
    """An expression of a type, at most `depth` deep."""
    if depth <= 0 or g.chance(0.15):
        return g.leaf(type_, columns)
    if g.chance(0.25):
        return _any_type(g, type_, columns, depth - 1)
    if type_ in ("int2", "int4", "int8"):
        return _integer(g, type_, columns, depth - 1)
    if type_ == "float4":
        return _real(g, columns, depth - 1)
    if type_ in ("numeric", "float8"):
        return _number(g, type_, columns, depth - 1)
    if type_ in ("text", "varchar", "bpchar"):
        text = _text(g, columns, depth - 1)
        return text if type_ == "text" else f"CAST({text} AS {_sized(g, type_)})"
    if type_ in ("date", "timestamp", "timestamptz"):
        return _moment(g, type_, columns, depth - 1)
    if type_ == "bool":
        return f"({condition(g, columns, depth - 1)})"
    return g.leaf(type_, columns)


def _sized(g: Grammar, type_: str) -> str:
    if type_ == "varchar":
        return g.pick("varchar", "varchar(3)", "varchar(40)")
    return g.pick("char(4)", "char(12)", "bpchar")


def _any_type(g: Grammar, type_: str, columns: list[Column], depth: int) -> str:
    one, two = expression(g, type_, columns, depth), g.leaf(type_, columns)
    kind = g.random.randint(0, 5)
    if kind == 0:
        return f"coalesce({one}, {two})"
    if kind == 1 and type_ != "uuid":
        return f"nullif({one}, {two})"
    if kind == 2 and type_ not in ("uuid", "bool"):
        return f"{g.pick('greatest', 'least')}({one}, {two})"
    if kind == 3:
        value = g.leaf("int4", columns)
        return f"CASE {value} WHEN 1 THEN {one} WHEN 5 THEN NULL ELSE {two} END"
    other = f" ELSE {two}" if g.chance(0.7) else ""
    more = f" WHEN {condition(g, columns, 0)} THEN {g.leaf(type_, columns)}"
    more = more if g.chance(0.4) else ""
    return f"CASE WHEN {condition(g, columns, 0)} THEN {one}{more}{other} END"


def _integer(g: Grammar, type_: str, columns: list[Column], depth: int) -> str:
    kind = g.random.randint(0, 6)
    moment = g.pick("date", "timestamp", "timestamptz")
    if kind == 0 and type_ == "int4":
        return f"length({_text(g, columns, depth)})"
    if kind == 1 and type_ == "int4":
        return f"({g.leaf('date', columns)} - {g.leaf('date', columns)})"
    if kind == 2:
        return f"extract({g.pick(*_PARTS, 'hour')} FROM {g.leaf(moment, columns)})::{type_}"
    if kind == 3:
        return f"({g.leaf('bool', columns)})::int4::{type_}"
    if kind == 4:
        inner = expression(g, g.pick("numeric", "float8", "int8"), columns, depth)
        return f"CAST({inner} AS {type_})"
    one, two = expression(g, type_, columns, depth), g.leaf(type_, columns)
    return g.pick(
        f"({one} + {two})",
        f"({one} - {two})",
        f"({one} * {two})",
        f"({one} / {two})",
        f"({one} / nullif({two}, 0::{type_}))",
        f"({one} % {two})",
        f"mod({one}, {two})",
        f"abs({one})",
        f"(- {one})",
    )


def _number(g: Grammar, type_: str, columns: list[Column], depth: int) -> str:
    one, two = expression(g, type_, columns, depth), g.leaf(type_, columns)
    choices = [
        f"({one} + {two})",
        f"({one} - {two})",
        f"({one} * {two})",
        f"({one} / {two})",
        f"({one} / nullif({two}, 0))",
        f"abs({one})",
        f"round({one})",
        f"{g.pick('floor', 'ceil', 'trunc')}({one})",
        f"(- {one})",
        f"sign({one})",
        f"{g.leaf(g.pick('int4', 'int8', 'int2'), columns)}::{type_}",
        f"({one} * {g.leaf('int4', columns)})",
        f"(1 - {one})",
    ]
    if type_ == "numeric":
        choices += [
            f"round({one}, {g.pick('0', '1', '2', '-1')})",
            f"{one}::numeric({g.pick('10,2', '12,4', '30,8', '5')})",
            f"extract({g.pick(*_PARTS)} FROM {g.leaf('timestamp', columns)})",
            f"extract(epoch FROM {g.leaf('timestamp', columns)})",
            f"extract({g.pick('epoch', 'day', 'hour', 'second')} FROM {_elapsed(g, columns)})",
            f"(100.0 * {one} / {two})",
            f"trunc({one}, 1)",
        ]
    else:
        choices += [
            f"sqrt({one})",
            f"power({one}, 2)",
            f"exp({g.leaf('float8', columns)})",
            f"ln({one})",
            f"({g.leaf(g.pick('numeric', 'float4'), columns)})::float8",
            f"date_part('{g.pick(*_PARTS)}', {g.leaf('date', columns)})",
            f"date_part('{g.pick('epoch', 'second')}', {g.leaf('timestamp', columns)})",
            f"date_part('{g.pick('epoch', 'second', 'day')}', {_elapsed(g, columns)})",
        ]
    return g.random.choice(choices)


def _elapsed(g: Grammar, columns: list[Column]) -> str:
    """An interval between two moments."""
    return f"({g.leaf('timestamp', columns)} - {g.leaf('timestamp', columns)})"


def _real(g: Grammar, columns: list[Column], depth: int) -> str:
    one, two = expression(g, "float4", columns, depth), g.leaf("float4", columns)
    return g.pick(
        f"({one} + {two})",
        f"({one} - {two})",
        f"({one} * {two})",
        f"({one} / {two})",
        f"abs({one})",
        f"(- {one})",
        f"{g.leaf(g.pick('int4', 'int8', 'numeric', 'float8'), columns)}::float4",
    )


def _text(g: Grammar, columns: list[Column], depth: int) -> str:
    one = expression(g, "text", columns, depth) if depth > 0 else _leaf_text(g, columns)
    any_type = g.pick(
        "int4", "numeric", "date", "float4", "float8", "bool", "timestamp", "int8", "bpchar"
    )
    other = g.leaf(any_type, columns)
    return g.pick(
        f"{g.pick('lower', 'upper', 'initcap', 'reverse')}({one})",
        f"({one} || {g.leaf('text', columns)})",
        f"concat({one}, '-', {other})",
        f"({one} || '/' || {other})",
        f"substring({one} from {g.pick('1', '2', '0')} for {g.pick('1', '3')})",
        f"substr({one}, {g.pick('2', '-1')})",
        f"{g.pick('trim', 'ltrim', 'rtrim', 'btrim')}({one})",
        f"replace({one}, 'o', '0')",
        f"{g.pick('left', 'right')}({one}, {g.pick('1', '3', '-2')})",
        f"{other}::text",
        f"CAST({other} AS text)",
        f"split_part({one}, ' ', {g.pick('1', '2', '-1')})",
        f"lpad({one}, 6, '*')",
        f"to_char({g.leaf('date', columns)}, '{g.pick('YYYY-MM', 'Mon YYYY', 'Q')}')",
        f"to_char({g.leaf(g.pick('timestamp', 'timestamptz'), columns)}, '{g.pick(*_CHARS)}')",
        _of_document(g, columns),
        f"md5({one})",
        one,
    )


def _leaf_text(g: Grammar, columns: list[Column]) -> str:
    text = g.leaf(g.pick("text", "text", "varchar"), columns)
    return f'({text} COLLATE "C")' if g.chance(0.1) else text


def _moment(g: Grammar, type_: str, columns: list[Column], depth: int) -> str:
    one = expression(g, type_, columns, depth) if depth > 0 else g.leaf(type_, columns)
    sign, unit, span = g.pick("+", "-"), g.pick(*_UNITS), g.pick(*_SPANS)
    if type_ == "date":
        return g.pick(
            f"({one} {sign} {g.pick('1', '30', '365')})",
            f"({one} {sign} {g.leaf('int4', columns)})",
            f"({one} {sign} interval '{span}')::date",
            f"date_trunc('{unit}', {one})::date",
            f"{g.leaf('timestamp', columns)}::date",
            f"CAST({g.leaf('timestamptz', columns)} AS date)",
        )
    other = "timestamptz" if type_ == "timestamp" else "timestamp"
    return g.pick(
        f"({one} {sign} interval '{span}')",
        f"date_trunc('{unit}', {one})",
        f"date_bin('{g.pick(*_BINS)}', {one}, '{g.pick('2001-01-01', '1850-03-04 05:00')}')",
        f"{g.leaf('date', columns)}::{type_}",
        f"({g.leaf(other, columns)} AT TIME ZONE '{g.pick(*_ZONES)}')",
        f"date_trunc('{unit}', {g.leaf('timestamptz', columns)}, '{g.pick(*_ZONES)}')"
        f"{'' if type_ == 'timestamptz' else '::timestamp'}",
    )
