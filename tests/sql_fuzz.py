"""Random statements of the kind that analysts and BI tools write, over tests/sql_fuzz_tables.sql.

A statement says which of its columns hold float sums and whether its order is total, so that
whoever compares results knows what may differ.
It knows nothing of the planner: what it draws is what people write, not what is supported.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.sql_fuzz_calls import aggregate, over_groups, window_call
from tests.sql_fuzz_values import CLOCKS, LITERALS, OIDS, RUNS, Values
from tests.sql_fuzz_words import COMPARED, FRAMES, SHOWN, TABLES, WEIGHTS, Column, Query


class Grammar:
    """Draws statements; the same seed gives the same ones."""

    def __init__(self, seed: int | str) -> None:
        """`seed` is printed by whoever runs it."""
        self.random = random.Random(seed)
        self.values = Values()
        self._aliases = 0
        self._parameters = False
        self._loose = False

    def statement(self, *, parameters: bool = False) -> Query:
        """The next one."""
        self.values, self._aliases, self._parameters = Values(), 0, parameters
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
            names = [f"q{i}" for i in range(len(inner.columns))]
            columns = inner.seen_as(alias, names)
            return f"({inner.sql}) AS {alias} ({', '.join(names)})", columns
        if self.chance(0.05):
            call = self.pick("1, 9", "0, 40, 7", "5, -3, -2", "3, 1")
            return f"generate_series({call}) AS {alias} (n)", [Column(f"{alias}.n", "int4")]
        if self.chance(0.04):
            step = self.pick("1 day", "6 hours", "1 month", "10 days 1 hour")
            call = f"timestamp '2024-01-{self.pick('01', '28', '31')}', '2024-04-02', '{step}'"
            return f"generate_series({call}) AS {alias} (n)", [Column(f"{alias}.n", "timestamp")]
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

    def outputs(self, columns: list[Column], count: int, depth: int) -> list[Column]:
        """Expressions of SELECT."""
        shown = []
        for _ in range(count):
            if self.chance(0.55):
                shown.append(self.random.choice(columns))
            else:
                shown.append(self.computed(self.pick(*SHOWN), columns, depth))
        return shown

    def computed(self, type_: str, columns: list[Column], depth: int) -> Column:
        """An expression, which knows whether a float sum is in it."""
        before, self._loose = self._loose, False
        sql = self.expression(type_, columns, depth)
        found = Column(sql, type_, self._loose)
        self._loose = before or found.loose
        return found

    def named(self, shown: Sequence[Column]) -> str:
        """The select list, some with aliases, now and then the same twice."""
        parts = []
        for each in shown:
            name = f" AS {self.alias('c')}" if self.chance(0.3) else ""
            parts.append(each.sql + (name or (' AS "same"' if self.chance(0.04) else "")))
        return ", ".join(parts)

    def ended(self, text: str, shown: list[Column]) -> Query:
        """With ORDER BY all columns and LIMIT, or with neither."""
        orderable = all(c.type in (*SHOWN, "time", "interval", "mood", "float4") for c in shown)
        if not orderable or self.chance(0.4):
            return Query(text, shown)
        order = list(range(len(shown)))
        self.random.shuffle(order)
        parts = [
            f"{at + 1}{self.pick('', ' ASC', ' DESC')}"
            f"{self.pick('', '', ' NULLS FIRST', ' NULLS LAST')}"
            for at in order
        ]
        text += " ORDER BY " + ", ".join(parts)
        # Which rows are the first by a float sum is as open as its last digits are.
        if self.chance(0.5) and not any(c.loose for c in shown):
            text += f" LIMIT {self.random.choice((0, 1, 5, 20, 100))}"
            if self.chance(0.3):
                text += f" OFFSET {self.random.choice((0, 1, 7, 1000))}"
        return Query(text, shown, tuple(order))

    def plain(self, depth: int) -> Query:
        """SELECT … FROM … WHERE … ORDER BY … LIMIT."""
        sql, columns = self.source(depth)
        shown = self.outputs(columns, self.random.randint(1, 5), 2)
        if depth > 2 and self.chance(0.08):
            inner, more = self.table(0)
            pair = [(x, y) for x in columns for y in more if x.type == y.type == "int4"]
            if pair:
                x, y = self.random.choice(pair)
                call = aggregate(self, more)
                text = f"(SELECT {call.sql} FROM {inner} WHERE {y.sql} = {x.sql})"
                shown.append(Column(text, call.type, call.loose))
        return self.ended(
            f"SELECT {self.named(shown)} FROM {sql}{self.where(columns, depth)}", shown
        )

    def distinct(self, depth: int) -> Query:
        """DISTINCT and DISTINCT ON."""
        sql, columns = self.source(depth)
        columns = [c for c in columns if c.type in SHOWN] or [Column("1", "int4")]
        shown = self.outputs(columns, self.random.randint(1, 3), 1)
        where = self.where(columns, depth)
        if self.chance(0.4):
            on = self.random.choice(columns)
            listed = [each.sql for each in shown]
            order = ", ".join([on.sql, *listed])
            text = f"SELECT DISTINCT ON ({on.sql}) {', '.join(listed)} FROM {sql}{where}"
            return Query(f"{text} ORDER BY {order}", shown)
        text = f"SELECT DISTINCT {self.named(shown)} FROM {sql}{where}"
        if any(each.type == "bpchar" for each in shown):
            # 'a' and 'a  ' are equal: PostgreSQL itself leaves open which of them is shown.
            return Query(text.replace("DISTINCT ", "", 1), shown)
        return self.ended(text, shown)

    def grouped(self, depth: int) -> Query:
        """GROUP BY, its sets, HAVING."""
        sql, columns = self.source(depth)
        usable = [c for c in columns if c.type in SHOWN] or [Column("1::int4", "int4")]
        keys = self.outputs(usable, self.random.randint(0, 3), 1)
        calls = [aggregate(self, usable) for _ in range(self.random.randint(1, 4))]
        group = f" GROUP BY {self.grouping(keys)}" if keys else ""
        having = ""
        if self.chance(0.25):
            call = aggregate(self, usable)
            if call.type in LITERALS:
                having = f" HAVING {call.sql} {self.pick(*COMPARED)} {self.literal(call.type)}"
        shown = [*keys, *calls]
        if self.chance(0.1):
            shown.append(over_groups(self, keys, calls))
        where = self.where(columns, depth)
        return self.ended(f"SELECT {self.named(shown)} FROM {sql}{where}{group}{having}", shown)

    def grouping(self, keys: Sequence[Column]) -> str:
        """What stands behind GROUP BY."""
        listed = ", ".join(key.sql for key in keys)
        sets = ", ".join(f"({key.sql})" for key in keys) + ", ()"
        return {
            "plain": listed,
            "position": ", ".join(str(i + 1) for i in range(len(keys))),
            "rollup": f"ROLLUP ({listed})",
            "cube": f"CUBE ({listed})",
            "sets": f"GROUPING SETS ({sets})",
        }[self.pick(*["plain"] * 6, "position", "rollup", "cube", "sets")]

    def windowed(self, depth: int) -> Query:
        """Window functions."""
        sql, columns = self.source(min(depth, 1))
        usable = [c for c in columns if c.type in SHOWN]
        shown = self.outputs(usable, 2, 1)
        # Ordered by all that may be shown: peers are then rows that look the same.
        keys = [c.sql for c in usable if c.type in ("int4", "int8")]
        for _ in range(self.random.randint(1, 2)):
            call = window_call(self, usable)
            partition = ""
            if self.chance(0.6):
                partition = f"PARTITION BY {self.random.choice(usable).sql} "
            order = "ORDER BY " + ", ".join(f"{k}{self.pick('', ' DESC')}" for k in keys)
            text = f"{call.sql} OVER ({partition}{order}{self.pick(*FRAMES)})"
            shown.append(Column(text, call.type, call.loose))
        return self.ended(f"SELECT {self.named(shown)} FROM {sql}{self.where(columns, 0)}", shown)

    def compound(self, _depth: int) -> Query:
        """Set operations."""
        types = [self.pick("int4", "numeric", "text", "date", "int8") for _ in range(2)]
        arms = []
        for _ in range(self.random.choice((2, 2, 3))):
            sql, columns = self.table(0)
            arm = ", ".join(self.expression(t, columns, 1) for t in types)
            arms.append(f"SELECT {arm} FROM {sql}{self.where(columns, 0)}")
        text = arms[0]
        for arm in arms[1:]:
            operator = self.pick("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL")
            text = f"({text}) {operator} ({arm})"
        return self.ended(text, [Column("", type_) for type_ in types])

    def with_ctes(self, depth: int) -> Query:
        """WITH, read once or twice."""
        inner = self.query(depth - 2)
        name = self.alias("w")
        names = [f"q{i}" for i in range(len(inner.columns))]
        columns = inner.seen_as("x", names)
        head = f"WITH {name} ({', '.join(names)}) AS {self.pick('', '', 'MATERIALIZED ')}"
        usable = [c for c in columns if c.type in SHOWN]
        if usable and self.chance(0.5):
            call = aggregate(self, usable)
            return Query(f"{head}({inner.sql}) SELECT {call.sql} FROM {name} x", [call])
        shown = self.outputs(columns, 2, 1)
        where = self.where(columns, 0)
        listed = ", ".join(each.sql for each in shown)
        return self.ended(f"{head}({inner.sql}) SELECT {listed} FROM {name} AS x{where}", shown)

    # -- expressions ----------------------------------------------------------------------------

    def literal(self, type_: str) -> str:
        """A constant, or a parameter."""
        if type_ in CLOCKS and self.chance(0.25):
            return self.random.choice(CLOCKS[type_])
        text = self.random.choice(LITERALS[type_])
        if self._parameters and type_ in OIDS and self.chance(0.6):
            others = [self.random.choice(LITERALS[type_]) for _ in range(RUNS - 1)]
            texts = [None if self.chance(0.05) else each for each in (text, *others)]
            return self.values.add(type_, texts, self.pick("text", "binary", "untyped"))
        if type_ in ("int4", "numeric") and text[0] not in "-NI" and self.chance(0.8):
            return text
        quoted = "'" + text.replace("'", "''") + "'"
        if type_ == "text" and self.chance(0.7):
            return quoted
        return f"{quoted}::{type_}" if self.chance(0.6) else f"CAST({quoted} AS {type_})"

    def array(self, type_: str, listed: str, element: Callable[[], str]) -> str:
        """An array's literal with these elements, or a parameter."""
        if self._parameters and f"{type_}[]" in OIDS and self.chance(0.7):
            texts: list[str | None] = [f"{{{listed}}}", f"{{{element()}}}", "{}"]
            return self.values.add(f"{type_}[]", texts, self.pick("text", "untyped"))
        return f"'{{{listed}}}'{self.pick('', f'::{type_}[]')}"

    def leaf(self, type_: str, columns: list[Column]) -> str:
        """A column of this type, else a constant."""
        fitting = [c for c in columns if c.type == type_]
        if fitting and self.chance(0.75):
            chosen = self.random.choice(fitting)
            self._loose = self._loose or chosen.loose
            return chosen.sql
        return self.literal(type_)

    def boolean(self, columns: list[Column], depth: int) -> str:
        """A condition."""
        from tests.sql_fuzz_expressions import condition  # noqa: PLC0415 - they know each other

        return condition(self, columns, depth)

    def expression(self, type_: str, columns: list[Column], depth: int) -> str:
        """An expression of a type."""
        from tests.sql_fuzz_expressions import expression  # noqa: PLC0415 - they know each other

        return expression(self, type_, columns, depth)
