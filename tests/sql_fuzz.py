"""Random statements of the kind that analysts and BI tools write, over tests/sql_fuzz_tables.sql.

A statement says whether its order is total, so that whoever compares results knows what may differ.
It knows nothing of the planner: what it draws is what people write, not what is supported.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.sql_fuzz_values import LITERALS, OIDS, Values
from tests.sql_fuzz_words import (
    COMPARED,
    FRAMES,
    NUMBERS,
    SHOWN,
    TABLES,
    WEIGHTS,
    Column,
    Query,
)


class Grammar:
    """Draws statements; the same seed gives the same ones."""

    def __init__(self, seed: int | str) -> None:
        """`seed` is printed by whoever runs it."""
        self.random = random.Random(seed)
        self.values = Values()
        self._aliases = 0
        self._parameters = False
        self._outer: list[Column] = []

    def statement(self, *, parameters: bool = False) -> Query:
        """The next one."""
        self.values, self._aliases, self._parameters, self._outer = Values(), 0, parameters, []
        query = self.query(3)
        query.values = self.values
        return query

    # -- drawing --------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        """Whether it happens."""
        return self.random.random() < probability

    def pick(self, *choices: str) -> str:
        """One of these."""
        return self.random.choice(choices)

    def alias(self, prefix: str = "t") -> str:
        """A name that was not used."""
        self._aliases += 1
        if self.chance(0.06):
            return f'"{self.pick("Select", "order", "x y", "ÄÖ", "left")} {self._aliases}"'
        return f"{prefix}{self._aliases}"

    # -- queries --------------------------------------------------------------------------------

    def query(self, depth: int) -> Query:
        """A whole query of any kind."""
        kinds: list[tuple[int, Callable[[int], Query]]] = [
            (8, self.plain),
            (10, self.grouped),
            (4, self.windowed),
            (2, self.distinct),
        ]
        if depth > 1:
            kinds += [(3, self.compound), (3, self.with_ctes)]
        return self.random.choices([k for _, k in kinds], [w for w, _ in kinds])[0](depth)

    def table(self, depth: int) -> tuple[str, list[Column]]:
        """One item of FROM."""
        alias = self.alias()
        if depth > 1 and self.chance(0.15):
            inner = self.query(depth - 2)
            names = [f"q{i}" for i in range(len(inner.types))]
            columns = [Column(f"{alias}.{n}", t) for n, t in zip(names, inner.types, strict=True)]
            return f"({inner.sql}) AS {alias} ({', '.join(names)})", columns
        name = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        columns = []
        for each in TABLES[name].split(", "):
            column, _, type_ = each.strip().rpartition(" ")
            columns.append(Column(f"{alias}.{column.replace('a_b', 'a b')}", type_))
        path = f"public.{name}" if self.chance(0.15) else name
        return f"{path} {self.pick('AS ', '')}{alias}", columns

    def source(self, depth: int) -> tuple[str, list[Column]]:
        """FROM with its joins."""
        sql, columns = self.table(depth)
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 2))):
            right, more = self.table(depth)
            kind = self.pick("JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
            keys = [
                f"{x.sql} = {y.sql}"
                for x in columns
                for y in more
                if x.type == y.type and x.type in ("int4", "int8", "date")
            ]
            if not keys or self.chance(0.03):
                sql = f"{sql} CROSS JOIN (SELECT * FROM customers LIMIT 0) AS {self.alias()}"
                continue
            condition = self.random.choice(keys)
            if kind != "FULL JOIN" and self.chance(0.3):
                condition += f" AND {self.boolean(columns + more, 1)}"
            sql = f"{sql} {kind} {right} ON {condition}"
            columns = columns + more
        return sql, columns

    def where(self, columns: list[Column], depth: int) -> str:
        """WHERE, or nothing."""
        if self.chance(0.35):
            return ""
        parts = [self.boolean(columns, 2)]
        if depth > 1 and self.chance(0.3):
            parts.append(self.subcondition(columns, depth - 1))
        return " WHERE " + f" {self.pick('AND', 'AND', 'OR')} ".join(parts)

    def subcondition(self, columns: list[Column], _depth: int) -> str:
        """EXISTS, IN and comparisons with a subquery, correlated or not."""
        sql, inner = self.table(0)
        outer = self.random.choice([c for c in columns if c.type in SHOWN] or columns)
        alike = [c for c in inner if c.type == outer.type]
        if not alike or outer.type not in SHOWN:
            return f"EXISTS (SELECT 1 FROM {sql}{self.where(inner, 0)})"
        match = self.random.choice(alike)
        kind = self.pick("exists", "in", "in", "scalar", "any")
        if kind == "exists":
            condition = f"{match.sql} = {outer.sql}"
            if self.chance(0.5):
                condition += f" AND {self.boolean(inner + columns, 1)}"
            return f"{self.pick('', 'NOT ')}EXISTS (SELECT 1 FROM {sql} WHERE {condition})"
        where = self.where(inner, 0)
        if kind == "scalar" and outer.type not in ("bool", "uuid"):
            aggregate = f"{self.pick('min', 'max')}({match.sql})"
            return f"{outer.sql} {self.pick(*COMPARED)} (SELECT {aggregate} FROM {sql}{where})"
        if kind == "any":
            quantifier = self.pick("ANY", "ALL", "SOME")
            compared = f"{outer.sql} {self.pick(*COMPARED)}"
            return f"{compared} {quantifier} (SELECT {match.sql} FROM {sql}{where})"
        return f"{outer.sql} {self.pick('', 'NOT ')}IN (SELECT {match.sql} FROM {sql}{where})"

    def outputs(self, columns: list[Column], count: int, depth: int) -> tuple[list[str], list[str]]:
        """Expressions of SELECT and their types."""
        shown, types = [], []
        for _ in range(count):
            if self.chance(0.55):
                column = self.random.choice(columns)
                shown.append(column.sql)
                types.append(column.type)
            else:
                types.append(self.pick(*SHOWN))
                shown.append(self.expression(types[-1], columns, depth))
        return shown, types

    def named(self, shown: Sequence[str]) -> str:
        """The select list, some with aliases, now and then the same twice."""
        parts = []
        for each in shown:
            name = f" AS {self.alias('c')}" if self.chance(0.3) else ""
            parts.append(each + (name or (' AS "same"' if self.chance(0.04) else "")))
        return ", ".join(parts)

    def tail(self, types: list[str], *, limit: bool = True) -> tuple[str, bool]:
        """ORDER BY all columns and LIMIT, or neither."""
        orderable = all(t in (*SHOWN, "time", "interval", "mood", "float4") for t in types)
        if not orderable or self.chance(0.4):
            return "", False
        positions = list(range(1, len(types) + 1))
        self.random.shuffle(positions)
        parts = [
            f"{p}{self.pick('', ' ASC', ' DESC')}{self.pick('', '', ' NULLS FIRST', ' NULLS LAST')}"
            for p in positions
        ]
        sql = " ORDER BY " + ", ".join(parts)
        if limit and self.chance(0.5):
            sql += f" LIMIT {self.random.choice((0, 1, 5, 20, 100))}"
            if self.chance(0.3):
                sql += f" OFFSET {self.random.choice((0, 1, 7, 1000))}"
        return sql, True

    def plain(self, depth: int) -> Query:
        """SELECT … FROM … WHERE … ORDER BY … LIMIT."""
        sql, columns = self.source(depth)
        shown, types = self.outputs(columns, self.random.randint(1, 5), 2)
        if depth > 2 and self.chance(0.08):
            inner, more = self.table(0)
            pair = [(x, y) for x in columns for y in more if x.type == y.type == "int4"]
            if pair:
                x, y = self.random.choice(pair)
                aggregate, type_ = self.aggregate(more)
                shown.append(f"(SELECT {aggregate} FROM {inner} WHERE {y.sql} = {x.sql})")
                types.append(type_)
        tail, total = self.tail(types)
        text = f"SELECT {self.named(shown)} FROM {sql}{self.where(columns, depth)}{tail}"
        return Query(text, types, total)

    def distinct(self, depth: int) -> Query:
        """DISTINCT and DISTINCT ON."""
        sql, columns = self.source(depth)
        columns = [c for c in columns if c.type in SHOWN] or [Column("1", "int4")]
        shown, types = self.outputs(columns, self.random.randint(1, 3), 1)
        where = self.where(columns, depth)
        if self.chance(0.4):
            on = self.random.choice(columns)
            order = ", ".join([on.sql, *shown])
            text = f"SELECT DISTINCT ON ({on.sql}) {', '.join(shown)} FROM {sql}{where}"
            return Query(f"{text} ORDER BY {order}", types, total=False)
        if "bpchar" in types:
            # 'a' and 'a  ' are equal: PostgreSQL itself leaves open which of them is shown.
            return Query(f"SELECT {self.named(shown)} FROM {sql}{where}", types, total=False)
        tail, total = self.tail(types)
        return Query(f"SELECT DISTINCT {self.named(shown)} FROM {sql}{where}{tail}", types, total)

    def aggregate(self, columns: list[Column]) -> tuple[str, str]:
        """An aggregate call and its type."""
        column = self.random.choice([c for c in columns if c.type in SHOWN] or columns)
        argument, type_ = column.sql, column.type
        if self.chance(0.35):
            type_ = self.pick("int4", "numeric", "numeric", "float8", "text", "date")
            argument = self.expression(type_, columns, 1)
        filtered = f" FILTER (WHERE {self.boolean(columns, 1)})" if self.chance(0.15) else ""
        once = "DISTINCT " if self.chance(0.15) else ""
        if type_ in NUMBERS and self.chance(0.65):
            name = self.pick("sum", "sum", "avg", "avg", "stddev", "var_pop")
            result = "float8" if type_ == "float8" else "numeric"
            if name == "sum" and type_ in ("int2", "int4"):
                result = "int8"
            return f"{name}({once}{argument}){filtered}", result
        if type_ == "bool":
            return f"{self.pick('bool_and', 'bool_or', 'every')}({argument}){filtered}", "bool"
        if type_ in SHOWN and type_ != "uuid" and self.chance(0.5):
            shown = "text" if type_ == "varchar" else type_
            return f"{self.pick('min', 'max')}({argument}){filtered}", shown
        if type_ == "text" and self.chance(0.3):
            return f"string_agg({argument}, ',' ORDER BY {argument}){filtered}", "text"
        if self.chance(0.4):
            return f"count(*){filtered}", "int8"
        return f"count({once if type_ in SHOWN else ''}{argument}){filtered}", "int8"

    def grouped(self, depth: int) -> Query:
        """GROUP BY, its sets, HAVING."""
        sql, columns = self.source(depth)
        usable = [c for c in columns if c.type in SHOWN] or [Column("1::int4", "int4")]
        keys, types = self.outputs(usable, self.random.randint(0, 3), 1)
        aggregates = [self.aggregate(usable) for _ in range(self.random.randint(1, 4))]
        shown = [*keys, *(a for a, _ in aggregates)]
        types += [t for _, t in aggregates]
        group = ""
        if keys:
            form = self.pick(*["plain"] * 6, "position", "rollup", "cube", "sets")
            listed = ", ".join(keys)
            positions = ", ".join(str(i + 1) for i in range(len(keys)))
            sets = ", ".join(f"({key})" for key in keys) + ", ()"
            group = (
                " GROUP BY "
                + {
                    "plain": listed,
                    "position": positions,
                    "rollup": f"ROLLUP ({listed})",
                    "cube": f"CUBE ({listed})",
                    "sets": f"GROUPING SETS ({sets})",
                }[form]
            )
        having = ""
        if self.chance(0.25):
            call, type_ = self.aggregate(usable)
            if type_ in LITERALS:
                having = f" HAVING {call} {self.pick(*COMPARED)} {self.literal(type_)}"
        tail, total = self.tail(types)
        where = self.where(columns, depth)
        return Query(
            f"SELECT {self.named(shown)} FROM {sql}{where}{group}{having}{tail}", types, total
        )

    def windowed(self, depth: int) -> Query:
        """Window functions."""
        sql, columns = self.source(min(depth, 1))
        usable = [c for c in columns if c.type in SHOWN]
        shown, types = self.outputs(usable, 2, 1)
        # Ordered by all that may be shown: peers are then rows that look the same.
        keys = [c.sql for c in usable if c.type in ("int4", "int8")]
        for _ in range(self.random.randint(1, 2)):
            call, type_ = self.window_call(usable)
            partition = ""
            if self.chance(0.6):
                partition = f"PARTITION BY {self.random.choice(usable).sql} "
            order = "ORDER BY " + ", ".join(f"{k}{self.pick('', ' DESC')}" for k in keys)
            frame = self.pick(*FRAMES)
            shown.append(f"{call} OVER ({partition}{order}{frame})")
            types.append(type_)
        tail, total = self.tail(types)
        text = f"SELECT {self.named(shown)} FROM {sql}{self.where(columns, 0)}{tail}"
        return Query(text, types, total)

    def window_call(self, usable: list[Column]) -> tuple[str, str]:
        """A function with OVER."""
        column = self.random.choice(usable)
        kind = self.random.randint(0, 5)
        if kind == 0:
            return f"{self.pick('row_number', 'rank', 'dense_rank')}()", "int8"
        if kind == 1:
            offset = self.pick("", ", 2", ", 0")
            return f"{self.pick('lag', 'lead')}({column.sql}{offset})", column.type
        if kind == 2:
            return f"{self.pick('first_value', 'last_value')}({column.sql})", column.type
        if kind == 3:
            return f"{self.pick('ntile(3)', 'count(*)')}", "int8"
        numbers = [c for c in usable if c.type in NUMBERS] or [Column("1::int4", "int4")]
        column = self.random.choice(numbers)
        small = column.type in ("int2", "int4")
        result = "float8" if column.type == "float8" else "int8" if small else "numeric"
        return f"sum({column.sql})", result

    def compound(self, _depth: int) -> Query:
        """Set operations."""
        types = [self.pick("int4", "numeric", "text", "date", "int8") for _ in range(2)]
        arms = []
        for _ in range(self.random.choice((2, 2, 3))):
            sql, columns = self.table(0)
            shown = [self.expression(t, columns, 1) for t in types]
            arms.append(f"SELECT {', '.join(shown)} FROM {sql}{self.where(columns, 0)}")
        text = arms[0]
        for arm in arms[1:]:
            operator = self.pick("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL")
            text = f"({text}) {operator} ({arm})"
        tail, total = self.tail(types)
        return Query(text + tail, types, total)

    def with_ctes(self, depth: int) -> Query:
        """WITH, read once or twice."""
        inner = self.query(depth - 2)
        name = self.alias("w")
        names = [f"q{i}" for i in range(len(inner.types))]
        columns = [Column(f"x.{n}", t) for n, t in zip(names, inner.types, strict=True)]
        head = f"WITH {name} ({', '.join(names)}) AS {self.pick('', '', 'MATERIALIZED ')}"
        usable = [c for c in columns if c.type in SHOWN]
        if usable and self.chance(0.5):
            call, type_ = self.aggregate(usable)
            return Query(f"{head}({inner.sql}) SELECT {call} FROM {name} x", [type_], total=False)
        shown, types = self.outputs(columns, 2, 1)
        tail, total = self.tail(types)
        where = self.where(columns, 0)
        text = f"{head}({inner.sql}) SELECT {', '.join(shown)} FROM {name} AS x{where}{tail}"
        return Query(text, types, total)

    # -- expressions ----------------------------------------------------------------------------

    def literal(self, type_: str) -> str:
        """A constant, or a parameter."""
        text = self.random.choice(LITERALS[type_])
        if self._parameters and type_ in OIDS and self.chance(0.6):
            return self.values.add(type_, text, binary=self.chance(0.5))
        if type_ in ("int4", "numeric") and text[0] not in "-NI" and self.chance(0.8):
            return text
        quoted = "'" + text.replace("'", "''") + "'"
        if type_ == "text" and self.chance(0.7):
            return quoted
        return f"{quoted}::{type_}" if self.chance(0.6) else f"CAST({quoted} AS {type_})"

    def leaf(self, type_: str, columns: list[Column]) -> str:
        """A column of this type, else a constant."""
        fitting = [c.sql for c in columns if c.type == type_]
        if fitting and self.chance(0.75):
            return self.random.choice(fitting)
        return self.literal(type_)

    def boolean(self, columns: list[Column], depth: int) -> str:
        """A condition."""
        from tests.sql_fuzz_expressions import condition  # noqa: PLC0415 - they know each other

        return condition(self, columns, depth)

    def expression(self, type_: str, columns: list[Column], depth: int) -> str:
        """An expression of a type."""
        from tests.sql_fuzz_expressions import expression  # noqa: PLC0415 - they know each other

        return expression(self, type_, columns, depth)
