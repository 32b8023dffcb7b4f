"""Random statements over the tables of `tests/plan/oracle_tables.sql`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Make = Callable[[int], str]

PLAIN: Mapping[str, tuple[str, ...]] = {
    "int": ("k", "i", "id", "l"),
    "numeric": ("n", "q"),
    "float": ("f", "r"),
    "text": ("t", "s", "c"),
    "bool": ("ok",),
    "date": ("d",),
    "timestamp": ("ts", "tz"),
}
NASTY: Mapping[str, tuple[str, ...]] = {
    "int": ("i2", "i4", "i8", "id"),
    "numeric": ("n0", "n2", "n6", "nw"),
    "float": ("f4", "f8"),
    "text": ("t", "vc", "c5", "c9"),
    "bool": ("b",),
    "date": ("d",),
    "timestamp": ("ts", "tz"),
}
_LITERALS: Mapping[str, tuple[str, ...]] = {
    "int": ("0", "1", "2", "-3", "7", "100", "40000", "3000000000", "5::smallint", "-2::bigint"),
    "numeric": ("0.0", "1.5", "-2.50", "0.001", "100.00", "3.1", "7::numeric", "2.5::numeric(6,3)"),
    "float": ("0::float8", "1.5::float8", "-0.25::float4", "1e10::float8", "2::real"),
    "text": ("''", "'a'", "'Dev'", "'b '", "'hé'", "'x'::varchar(3)", "'ab'::text", "'North'"),
    "bool": ("true", "false", "NULL::bool"),
    "date": ("date '2024-02-29'", "date '2000-01-01'", "'1999-12-31'::date"),
    "timestamp": (
        "timestamp '2024-01-01 10:00:00'",
        "timestamptz '2024-01-05 00:00:00+00'",
        "timestamp '2000-01-01'",
    ),
}


class Expressions:
    """Random expressions of a wanted family."""

    def __init__(
        self, source: random.Random, columns: Mapping[str, tuple[str, ...]], prefix: str = ""
    ) -> None:
        """Use these columns, qualified by `prefix`."""
        self.random, self.columns, self.prefix = source, columns, prefix
        self._make: dict[str, Make] = {
            "int": self._int,
            "numeric": self._numeric,
            "float": self._float,
            "text": self._text,
            "bool": self._bool,
            "date": self._date,
            "timestamp": self._timestamp,
        }

    def any(self, depth: int) -> str:
        """Of any family."""
        return self.of(self.random.choice(list(self._make)), depth)

    def of(self, family: str, depth: int) -> str:
        """Of one family."""
        pick = self.random.random()
        if depth <= 0 or pick < 0.12:
            if pick < 0.09 or self.random.random() < 0.75:
                return self.prefix + self.random.choice(self.columns[family])
            return self.random.choice(_LITERALS[family])
        if pick < 0.22:
            return self._common(family, depth - 1)
        return self._make[family](depth - 1)

    def _common(self, family: str, depth: int) -> str:
        a, b = self.of(family, depth), self.of(family, depth)
        condition = self.of("bool", depth)
        return self.random.choice(
            [
                f"CASE WHEN {condition} THEN {a} ELSE {b} END",
                f"CASE WHEN {condition} THEN {a} END",
                f"coalesce({a}, {b})",
                f"nullif({a}, {b})",
                f"greatest({a}, {b})",
                f"least({a}, {b})",
                f"({a})",
            ]
        )

    def _int(self, depth: int) -> str:
        a, b = self.of("int", depth), self.of("int", depth)
        text, day = self.of("text", depth), self.of("date", depth)
        return self.random.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a} * {b})",
                f"({a} / {b})",
                f"({a} % {b})",
                f"(- {a})",
                f"abs({a})",
                f"mod({a}, {b})",
                f"length({text})",
                f"strpos({text}, {self.of('text', 0)})",
                f"({day} - {self.of('date', 0)})",
                f"({self.of('numeric', depth)})::int",
                f"({self.of('float', depth)})::bigint",
                f"({a})::bigint",
                f"({a})::int",
                f"octet_length({text})",
                f"({self.of('bool', depth)})::int",
                f"position('a' in {text})",
            ]
        )

    def _numeric(self, depth: int) -> str:
        a, b = self.of("numeric", depth), self.of("numeric", depth)
        whole, moment = self.of("int", depth), self.of("timestamp", depth)
        field = self.random.choice(
            [
                "year",
                "month",
                "day",
                "dow",
                "doy",
                "week",
                "quarter",
                "hour",
                "minute",
                "second",
                "epoch",
                "isodow",
            ]
        )
        return self.random.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a} * {b})",
                f"({a} / {b})",
                f"({a} + {whole})",
                f"({whole} * {a})",
                f"({a} / {whole})",
                f"({whole} / {a})",
                f"(- {a})",
                f"abs({a})",
                f"round({a}, 1)",
                f"round({a})",
                f"floor({a})",
                f"ceil({a})",
                f"trunc({a})",
                f"sign({a})",
                f"({whole})::numeric",
                f"({a})::numeric(12,3)",
                f"extract({field} from {moment})",
                f"extract(year from {self.of('date', depth)})",
                f"({whole})::numeric(8,2)",
                f"extract(epoch from {self.of('date', depth)})",
            ]
        )

    def _float(self, depth: int) -> str:
        a, b = self.of("float", depth), self.of("float", depth)
        return self.random.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a} * {b})",
                f"({a} / {b})",
                f"({a} + {self.of('int', depth)})",
                f"({a} * {self.of('numeric', depth)})",
                f"(- {a})",
                f"abs({a})",
                f"round({a})",
                f"floor({a})",
                f"ceil({a})",
                f"trunc({a})",
                f"sqrt({a})",
                f"({self.of('int', depth)})::float8",
                f"({self.of('numeric', depth)})::float8",
                f"date_part('month', {self.of('timestamp', depth)})",
                f"({self.of('int', depth)})::real",
                f"({self.of('numeric', depth)})::real",
                f"round({self.of('int', depth)})",
                f"floor({self.of('int', depth)})",
            ]
        )

    def _text(self, depth: int) -> str:
        a, b = self.of("text", depth), self.of("text", depth)
        return self.random.choice(
            [
                f"({a} || {b})",
                f"lower({a})",
                f"upper({a})",
                f"substring({a} from 2 for 3)",
                f"substr({a}, 1, 2)",
                f"left({a}, 2)",
                f"right({a}, -1)",
                f"trim({a})",
                f"ltrim({a}, 'a')",
                f"rtrim({a})",
                f"replace({a}, 'a', 'xy')",
                f"concat({a}, {b})",
                f"({self.of('int', depth)})::text",
                f"({a} || {self.of('int', depth)})",
                f"md5({a})",
                f"split_part({a}, ' ', 1)",
                f"({self.of('numeric', 0)})::text",
                f"({a})::varchar(4)",
                f"({self.of('bool', depth)})::text",
                f"({a})::text",
            ]
        )

    def _bool(self, depth: int) -> str:
        family = self.random.choice(
            ["int", "numeric", "float", "text", "date", "timestamp", "bool"]
        )
        a, b, c = (self.of(family, depth) for _ in range(3))
        x, y = self.of("bool", depth), self.of("bool", depth)
        operator = self.random.choice(["=", "<>", "<", "<=", ">", ">="])
        number = self.random.sample(["int", "numeric", "float"], 2)
        return self.random.choice(
            [
                f"({a} {operator} {b})",
                f"({a} {operator} {b})",
                f"({self.of(number[0], depth)} {operator} {self.of(number[1], depth)})",
                f"({a} BETWEEN {b} AND {c})",
                f"({a} IN ({b}, {c}))",
                f"({a} NOT IN ({b}, {c}))",
                f"({a} IS NULL)",
                f"({a} IS NOT NULL)",
                f"({x} AND {y})",
                f"({x} OR {y})",
                f"(NOT {x})",
                f"({x} IS TRUE)",
                f"({x} IS NOT FALSE)",
                f"({a} IS DISTINCT FROM {b})",
                f"({self.of('text', depth)} LIKE 'a%')",
                f"({self.of('text', depth)} NOT LIKE '%_b%')",
                f"({self.of('text', depth)} ILIKE '%O%')",
                f"({self.of('date', depth)} {operator} {self.of('timestamp', depth)})",
                f"({self.of('text', 0)} {operator} 'b')",
                f"({self.of('date', 0)} {operator} '2024-01-15')",
                f"({self.of('timestamp', 0)} {operator} '2024-01-15 12:00:00')",
                f"({self.of('int', 0)} {operator} '5')",
                f"({self.of('numeric', 0)} {operator} '5.5')",
                f"starts_with({self.of('text', depth)}, 'a')",
            ]
        )

    def _date(self, depth: int) -> str:
        a = self.of("date", depth)
        return self.random.choice(
            [
                f"({a} + 3)",
                f"({a} - {self.of('int', 0)})",
                f"({self.of('timestamp', depth)})::date",
                f"({a})::date",
                f"(2 + {a})",
            ]
        )

    def _timestamp(self, depth: int) -> str:
        a = self.of("timestamp", depth)
        unit = self.random.choice(
            ["year", "quarter", "month", "week", "day", "hour", "minute", "second"]
        )
        return self.random.choice(
            [
                f"({a} + interval '1 month')",
                f"({a} - interval '1' day)",
                f"({a} + interval '3 hours 2 minutes')",
                f"date_trunc('{unit}', {a})",
                f"({self.of('date', depth)} + interval '1 year')",
                f"({self.of('date', depth)})::timestamp",
                f"date_trunc('{unit}', {self.of('date', depth)})",
                f"({a})::timestamp",
                f"({a})::timestamptz",
            ]
        )

    def aggregate(self, depth: int) -> str:
        """An aggregate call."""
        family = self.random.choice(["int", "numeric", "text", "date", "timestamp", "float"])
        number = self.random.choice(["int", "numeric", "numeric"])
        tail = f" FILTER (WHERE {self.of('bool', depth)})" if self.random.random() < 0.2 else ""
        call = self.random.choice(
            [
                "count(*)",
                f"count({self.any(depth)})",
                f"count(DISTINCT {self.of(family, depth)})",
                f"sum({self.of(number, depth)})",
                f"sum({self.of(number, depth)})",
                f"avg({self.of(number, depth)})",
                f"min({self.of(family, depth)})",
                f"max({self.of(family, depth)})",
                f"bool_and({self.of('bool', depth)})",
                f"bool_or({self.of('bool', depth)})",
                f"sum(DISTINCT {self.of('int', depth)})",
                f"avg({self.of('int', depth)})",
            ]
        )
        return call + tail


def statement(source: random.Random) -> str:
    """One random statement with a total order of its rows (or one row)."""
    kind = source.random()
    if kind < 0.45:
        return _rows(source)
    make = Expressions(source, PLAIN, "p.")
    if kind < 0.75:
        return _groups(source, make)
    return _windows(source, make) if kind < 0.85 else _joins(source, make)


def _rows(source: random.Random) -> str:
    nasty = source.random() < 0.4
    make = Expressions(source, NASTY if nasty else PLAIN)
    depth = source.choice([1, 1, 2, 2, 3])
    items = ", ".join(make.any(depth) for _ in range(source.choice([1, 1, 2])))
    where = f" WHERE {make.of('bool', 1)}" if source.random() < 0.3 else ""
    if nasty and source.random() < 0.7:
        where = f" WHERE id IN ({source.randint(1, 15)}, {source.randint(1, 15)})"
    return f"SELECT id, {items} FROM {'nasty' if nasty else 'plain'}{where} ORDER BY 1"


def _groups(source: random.Random, make: Expressions) -> str:
    families = ["int", "text", "date", "bool", "timestamp"]
    keys = [
        make.of(source.choice(families), source.choice([0, 1]))
        for _ in range(source.choice([1, 2]))
    ]
    aggregates = ", ".join(make.aggregate(1) for _ in range(source.choice([1, 2, 3])))
    tail = f" HAVING {make.aggregate(0)} IS NOT NULL" if source.random() < 0.2 else ""
    numbers = [str(n) for n in range(1, len(keys) + 1)]
    flags = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]
    order = ", ".join(number + source.choice(flags) for number in numbers)
    return (
        f"SELECT {', '.join(keys)}, {aggregates} FROM plain p "
        f"GROUP BY {', '.join(numbers)}{tail} ORDER BY {order}"
    )


def _windows(source: random.Random, make: Expressions) -> str:
    window = source.choice(
        [
            "PARTITION BY p.k ORDER BY p.id",
            "ORDER BY p.id",
            "ORDER BY p.k, p.id",
            "ORDER BY p.t DESC, p.id",
            "PARTITION BY p.ok ORDER BY p.n DESC, p.id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING",
        ]
    )
    calls = [
        "row_number()",
        "rank()",
        "dense_rank()",
        "lag(p.i)",
        "lead(p.t,2)",
        "first_value(p.n)",
        "ntile(3)",
    ]
    call = source.choice([*calls, make.aggregate(0).replace("DISTINCT ", "")])
    return f"SELECT p.id, {call} OVER ({window}) FROM plain p ORDER BY 1"


def _joins(source: random.Random, make: Expressions) -> str:
    join = source.choice(["JOIN", "LEFT JOIN"])
    on = source.choice(
        [
            "p.k = x.k",
            "p.k = x.k AND p.ok",
            "p.c = x.code",
            "p.k = x.k + 1",
            "p.d >= x.since AND p.k = x.k",
        ]
    )
    where = source.choice(
        [
            "true",
            make.of("bool", 1),
            "p.k IN (SELECT k FROM dim WHERE rate > 2)",
            "EXISTS (SELECT 1 FROM dim z WHERE z.k = p.k AND z.since < p.d)",
            "p.n > (SELECT avg(n) FROM plain y WHERE y.k = p.k)",
            "p.i NOT IN (SELECT i FROM plain WHERE i > 20)",
        ]
    )
    return (
        f"SELECT p.id, x.k, x.name, {make.any(1)} FROM plain p {join} dim x ON {on} "
        f"WHERE {where} ORDER BY p.id, x.k"
    )
