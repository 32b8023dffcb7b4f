"""Distances of vectors against plain Python, with as many digits as it takes."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Iterable
from decimal import Decimal, localcontext

import duckdb
import pytest

from htapkit.plan import LocalQuery, Refuse, Relay, SessionView, plan
from htapkit.plan.unproven import LocalOnlyError
from htapkit.plan.vectors import read_vector
from tests.unit.htapkit.plan.catalogs import catalog, status

_SIZE = 24
_CATALOG = catalog(
    status(
        "items",
        f"id int4, kind text, e vector({_SIZE}), f vector({_SIZE}), two vector(2)",
        source="events",
    ),
    status("orders", "id int4, note text, p point", source="shop"),
)
_ALONE = SessionView("events", alone=True)
_EPSILON = Decimal(2) ** -53


def _local(sql: str, types: tuple[int, ...] = (), session: SessionView = _ALONE) -> LocalQuery:
    made = plan(sql, _CATALOG, session, types)
    assert isinstance(made, LocalQuery), made
    return made


def _single(value: float) -> float:
    (found,) = struct.unpack("f", struct.pack("f", value))
    return float(found)


def _vectors(rolled: random.Random, count: int) -> list[list[float]]:
    """From the smallest numbers to the largest that float4 has, and of all signs."""
    found = []
    for number in range(count):
        width = (0.01, 1.0, 30.0, 120.0)[number % 4]
        found.append(
            [
                _single(rolled.choice((-1, 1)) * 2 ** rolled.uniform(-width, width))
                for _ in range(_SIZE)
            ]
        )
    return found


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(values, Decimal(0))


def _exact(a: list[float], b: list[float]) -> dict[str, tuple[Decimal, Decimal]]:
    """(value, how far off it may be) of each operator: a few float8 roundings for each element."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 400, 10**6, -(10**6)
        left, right = [Decimal(x) for x in a], [Decimal(x) for x in b]
        pairs = list(zip(left, right, strict=True))
        dot = _sum(x * y for x, y in pairs)
        size = _sum(abs(x * y) for x, y in pairs)
        norm = (_sum(x * x for x in left) * _sum(y * y for y in right)).sqrt()
        apart = _sum((x - y) ** 2 for x, y in pairs).sqrt()
        steps = (_SIZE + 4) * _EPSILON
        return {
            "<->": (apart, apart * steps),
            "<#>": (-dot, size * steps),
            "<=>": (1 - dot / norm, 2 * steps),
        }


@pytest.fixture
def rows() -> list[tuple[int, str, list[float] | None, list[float] | None]]:
    """Of the table, with NULLs and a zero vector."""
    rolled = random.Random(11)
    made = zip(_vectors(rolled, 80), reversed(_vectors(rolled, 80)), strict=True)
    found = [(at, f"k{at % 3}", e, f) for at, (e, f) in enumerate(made)]
    return [*found, (100, "k0", None, found[0][3]), (101, "k0", [0.0] * _SIZE, found[0][3])]


@pytest.fixture
def copy(rows: list[tuple[object, ...]]) -> duckdb.DuckDBPyConnection:
    """The rows as the hot store has them."""
    connection = duckdb.connect()
    connection.execute('CREATE SCHEMA "events.public"')
    types = f"id INT, kind VARCHAR, e FLOAT[{_SIZE}], f FLOAT[{_SIZE}], two FLOAT[2]"
    connection.execute(f'CREATE TABLE "events.public".items ({types})')
    for row in rows:
        connection.execute('INSERT INTO "events.public".items VALUES (?, ?, ?, ?, NULL)', row)
    return connection


@pytest.mark.parametrize("operator", ["<->", "<=>", "<#>"])
@pytest.mark.parametrize("given", ["literal", "parameter", "column"])
def test_distances_are_exact_to_float8(
    operator: str,
    given: str,
    rows: list[tuple[int, str, list[float] | None, list[float] | None]],
    copy: duckdb.DuckDBPyConnection,
) -> None:
    """Of whatever size the elements are: nothing overflows, nothing is lost."""
    for asked in _vectors(random.Random(12), 4):
        text = str(asked)
        other = {"literal": f"'{text}'", "parameter": "$1::vector", "column": "f"}[given]
        query = _local(
            f"SELECT id, e {operator} {other} FROM items WHERE id < 100 ORDER BY 2, id LIMIT 80"
        )
        values = [read_vector(text, _SIZE)] if given == "parameter" else []
        found = copy.execute(query.sql, values).fetchall()
        assert query.columns[1].type.name == "float8"
        assert len(found) == 80
        assert found == sorted(found, key=lambda row: (row[1], row[0]))
        by_id = {row[0]: row for row in rows}
        for id_, distance in found:
            _, _, left, right = by_id[id_]
            assert left is not None
            assert right is not None
            exact, off = _exact(left, right if given == "column" else asked)[operator]
            assert abs(Decimal(distance) - exact) <= off, (id_, distance, exact)


def test_null_and_zero(copy: duckdb.DuckDBPyConnection) -> None:
    """A NULL has no distance; the angle to zero is NaN, which is the largest but for NULL."""
    asked = str([1.0] * _SIZE)
    found = copy.execute(
        _local(f"SELECT id, e <=> '{asked}' FROM items ORDER BY 2 DESC NULLS LAST LIMIT 1").sql
    ).fetchone()
    assert found is not None
    assert found[0] == 101
    assert math.isnan(found[1])
    last = _local(f"SELECT id FROM items ORDER BY e <=> '{asked}' OFFSET 80").sql
    assert copy.execute(last).fetchall() == [(101,), (100,)]
    none = _local("SELECT count(*) FROM items WHERE e <-> NULL IS NULL").sql
    assert copy.execute(none).fetchone() == (82,)


def test_an_array_is_a_vector(copy: duckdb.DuckDBPyConnection) -> None:
    """Clients give lists of numbers as float8[]; what has no type is read as a text."""
    asked = [0.5] * _SIZE
    sql = "SELECT id FROM items WHERE kind = 'k1' ORDER BY e <-> $1 LIMIT $2"
    for oid, name in (
        (0, "text"),
        (25, "text"),
        (114, "json"),
        (1021, "_float4"),
        (1022, "_float8"),
    ):
        query = _local(sql, (oid, 0))
        assert [each.type.name for each in query.parameters] == [name, "int8"]
        assert query.parameters[0].type.dimensions == _SIZE
        found = copy.execute(query.sql, [read_vector(asked, _SIZE), 3]).fetchall()
        assert len(found) == 3
        assert all(id_ % 3 == 1 for (id_,) in found)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM items WHERE e <-> (SELECT e FROM items WHERE id = 1) = 0",
        "SELECT id FROM (SELECT id, e AS v FROM items) s WHERE v <-> (WITH q AS "
        "(SELECT e FROM items WHERE id = 1) SELECT e FROM q) = 0",
        "SELECT i.id FROM items i JOIN items o ON i.e <-> o.e < 1e-30 AND o.id = 1",
        "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY e <-> "
        "(SELECT e FROM items WHERE id = 1)) AS n FROM items) s WHERE n = 1",
    ],
)
def test_vectors_of_a_query(sql: str, copy: duckdb.DuckDBPyConnection) -> None:
    """They are read back from their text, which says them exactly."""
    assert copy.execute(_local(sql).sql).fetchall() == [(1,)]


def test_a_vector_is_shown_as_json(copy: duckdb.DuckDBPyConnection) -> None:
    """Also what is no number, and each element exactly."""
    copy.execute("UPDATE \"events.public\".items SET two = ['nan', '-inf']::FLOAT[2] WHERE id = 1")
    copy.execute("UPDATE \"events.public\".items SET two = ['inf', 1e20]::FLOAT[2] WHERE id = 2")
    query = _local("SELECT two, e FROM items WHERE id < 3 ORDER BY id")
    assert {column.type.oid for column in query.columns} == {114}
    found = [
        (json.loads(two) if two else None, json.loads(e))
        for two, e in copy.execute(query.sql).fetchall()
    ]
    assert [two for two, _ in found] == [None, ["NaN", "-Infinity"], ["Infinity", 1e20]]
    kept = copy.execute('SELECT e FROM "events.public".items WHERE id < 3 ORDER BY id').fetchall()
    assert [tuple(map(_single, e)) for _, e in found] == [e for (e,) in kept]
    counted = _local("SELECT count(two) FROM items WHERE two IS NOT NULL")
    assert copy.execute(counted.sql).fetchone() == (2,)


@pytest.mark.parametrize(
    ("expression", "sqlstate", "why"),
    [
        ("two <-> '[1,2,3]'", "22000", "different vector dimensions 2 and 3"),
        ("two <-> '[1,2,3]'::vector(3)", "22000", "different vector dimensions 2 and 3"),
        ("two <-> $1::vector(3)", "22000", "different vector dimensions 2 and 3"),
        ("two <-> e", "22000", "different vector dimensions 2 and 24"),
        ("two <-> '[]'", "22000", "at least 1"),
        ("two <-> '1,2'", "22P02", "not [1,2,3]"),
        ("two <-> '[1,x]'", "22P02", 'element "x"'),
        ("two <-> '[1,1e39]'", "22003", "out of range"),
        ("two <-> '[1,NaN]'", "22000", "NaN is not allowed"),
    ],
)
def test_what_is_wrong_is_an_error(expression: str, sqlstate: str, why: str) -> None:
    """With the SQLSTATE that pgvector gives it, from a session of any source."""
    for name, session in (("items", _ALONE), ("events.public.items", SessionView("shop"))):
        made = plan(f"SELECT id FROM {name} ORDER BY {expression}", _CATALOG, session)
        assert isinstance(made, Refuse), made
        assert made.sqlstate == sqlstate
        assert why in made.message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 - two <-> '[1,2]' FROM items",
        "SELECT two <-> '[1,2]' * 2 FROM items",
        "SELECT two <-> 5 FROM items",
        "SELECT id <-> '[1,2]' FROM items",
        "SELECT '[1,2]'::vector <-> '[1,3]'::vector FROM items",
        "SELECT two = two FROM items",
        "SELECT id FROM items ORDER BY two",
        "SELECT max(two) FROM items",
    ],
)
def test_what_is_not_proven_is_refused(sql: str) -> None:
    """Vectors have no order of their own here."""
    made = plan(sql, _CATALOG, _ALONE)
    assert isinstance(made, Refuse)
    assert made.sqlstate == "0A000"


def test_what_is_the_sources_stays_there() -> None:
    """Its extensions have the same operators for types of theirs."""
    for sql in ("SELECT p <-> point '(1,2)' FROM orders", "SELECT id <=> 3 FROM orders"):
        assert isinstance(plan(sql, _CATALOG, SessionView("shop")), Relay)


def test_a_null_compares_as_before() -> None:
    """IS NOT DISTINCT FROM is no operator of vectors."""
    assert (
        "IS NOT DISTINCT FROM" in _local("SELECT id FROM items WHERE id IS NOT DISTINCT FROM 3").sql
    )


def test_elements_are_read_once() -> None:
    """As many as are asked for, with blanks where pgvector takes them."""
    assert read_vector(" [ 1 ,.5,-2e3 ] ", 3) == "[1, .5, -2e3]"
    with pytest.raises(LocalOnlyError, match="different vector dimensions 3 and 2"):
        read_vector([1.0, 2.0], 3)
