"""Settings, patterns, fingerprints: what is decided about tables without asking a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from htapkit.errors import ConfigError, PositionLost, SourceRefused, SourceUnavailable
from htapkit.model import Broken, Column, SchemaChange, SqlType, Storage, TableId, TableSchema
from htapkit.spi import Discovered, SourceOptions
from htapkit_postgres.connection import Settings, conninfo, matches, parse_settings, source_error
from htapkit_postgres.fingerprint import Fingerprint, Part, compare, parse
from htapkit_postgres.slot import stream_error

TABLE = TableId("shop", "public", "orders")
DSN = "postgresql://app:geheim@localhost:5432/shop"


def options(**settings: object) -> SourceOptions:
    return SourceOptions("shop", {"dsn": DSN, **settings}, 10, 1, 1, 1, 1, None)


def test_defaults() -> None:
    settings = parse_settings(options())
    assert settings.slot == settings.publication == "htapkit_shop"
    assert settings.publications == ("htapkit_shop", "htapkit_shop_append")
    assert settings.wants("any", "table")
    assert not settings.wants_append_only("any", "table")
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dsn", 5),
        ("dsn", "postgresql://app:geheim@[::1/"),
        ("tables", "public.*"),
        ("tables", ["orders"]),
        ("tables", ["!public.orders"]),
        ("slot", "With-Dash"),
        ("slot", "x" * 64),
        ("publication", ""),
        ("failover", "yes"),
        ("create_publication", 1),
        ("decoding_memory", "lots"),
        ("append_only", {"a.b": True}),
        ("tabels", ["public.*"]),
    ],
)
def test_a_wrong_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"sources.shop.{key}") as raised:
        parse_settings(options(**{key: value}))
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (["public.*"], "public.orders", True),
        (["public.*"], "private.orders", False),
        (["public.*", "!public.audit_*"], "public.audit_log", False),
        (["!public.audit_*", "public.*"], "public.audit_log", False),
        (["public.Orders"], "public.orders", False),
        (["*.orders"], "x.orders", True),
    ],
)
def test_patterns(patterns: list[str], name: str, expected: bool) -> None:
    assert matches(patterns, name) is expected


def test_the_connection_string_keeps_what_was_given() -> None:
    dsn = "host=h user=u dbname=d keepalives_idle=99 options='-c work_mem=1MB'"
    text = conninfo(parse_settings(options(dsn=dsn)), more={"jit": "off"}, replication="database")
    assert "keepalives_idle=99" in text
    assert "-c work_mem=1MB" in text
    assert "-c jit=off" in text
    assert "replication=database" in text
    assert "tcp_user_timeout" in text


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        ("", 'connection failed: FATAL:  password authentication failed for "u"', SourceRefused),
        ("", "connection failed: FATAL:  the database system is starting up", SourceUnavailable),
        ("", "connection failed: FATAL:  sorry, too many clients already", SourceUnavailable),
        ("", "connection refused geheim", SourceUnavailable),
        ("57P01", "terminating connection due to administrator command", SourceUnavailable),
        ("55006", 'replication slot "s" is active for PID 5', SourceUnavailable),
        ("42501", "permission denied for table t", SourceRefused),
        ("55000", "cannot read from logical replication slot", SourceRefused),
        ("55000", 'can no longer access replication slot "s"', PositionLost),
        ("55000", "This slot has been invalidated because it was", PositionLost),
    ],
)
def test_errors_are_told_apart(state: str, message: str, expected: type[Exception]) -> None:
    error = source_error(parse_settings(options()), "stream changes", state, message)
    assert type(error) is expected
    assert "geheim" not in str(error)


def test_a_missing_publication_is_a_gap() -> None:
    settings = parse_settings(options())
    words = 'publication "htapkit_shop" does not exist'
    assert isinstance(stream_error(settings, "42704", words), PositionLost)
    assert isinstance(stream_error(settings, "57P01", "shutting down"), SourceUnavailable)


# -- compare --

INT, TEXT = SqlType("int4", 23), SqlType("text", 25)


def column(name: str, ordinal: int, type_: SqlType = INT, *, nullable: bool = True) -> Column:
    return Column(name, type_, ordinal, nullable)


SCHEMA = TableSchema(
    TABLE, (column("id", 1, nullable=False), column("v", 2, TEXT), column("n", 3)), key=("id",)
)
PRINT = Fingerprint(
    7, {7: Part("", 70, "m"), 8: Part("5", 80, "m", born=True)}, "99", labels={1: "ok", -1: "one"}
)


def now(
    schema: TableSchema = SCHEMA, fingerprint: Fingerprint = PRINT, problem: str = ""
) -> Discovered:
    return Discovered(schema, fingerprint.text(), problem=problem)


def parts(more: Mapping[int, Part]) -> Fingerprint:
    return replace(PRINT, parts={**PRINT.parts, **more})


def with_columns(*columns: Column) -> TableSchema:
    return replace(SCHEMA, columns=columns)


ID, V, N = SCHEMA.columns


def test_a_fingerprint_is_read_as_it_was_written() -> None:
    assert parse(PRINT.text()) == replace(PRINT, generated={}, filled=[])
    for text in ("", "{}", "[]", "null", '{"version": 0}', '{"version": 1}'):
        assert parse(text) is None


HARMLESS = {
    "nothing": now(),
    "TRUNCATE, VACUUM FULL, CLUSTER": now(fingerprint=parts({7: Part("", 71, "m")})),
    "SET NOT NULL and back": now(fingerprint=parts({7: Part("", 70, "other")})),
    "joined its publication": now(fingerprint=PRINT),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless(case: str) -> None:
    assert compare(SCHEMA, PRINT.text(), HARMLESS[case]) is None


FAITHFUL = {
    "add a nullable column": now(with_columns(ID, V, N, column("x", 4))),
    "drop a column": now(with_columns(ID, N)),
    "rename": now(with_columns(ID, replace(V, name="w"), N)),
    "rename the key": now(replace(with_columns(replace(ID, name="k"), V, N), key=("k",))),
    "swap names": now(with_columns(ID, replace(V, name="n"), replace(N, name="v"))),
    "null is allowed": now(with_columns(replace(ID, nullable=True), V, N)),
    "another collation": now(with_columns(ID, replace(V, binary_order=False), N)),
    "a new empty partition": now(fingerprint=parts({9: Part("6", 9, "m", born=True)})),
    "a new label": now(fingerprint=replace(PRINT, labels={1: "ok", -1: "one", 2: "bad"})),
}


@pytest.mark.parametrize("case", FAITHFUL)
def test_faithful(case: str) -> None:
    found = FAITHFUL[case]
    verdict = compare(SCHEMA, PRINT.text(), found)
    assert verdict == SchemaChange(found.schema, faithful=True)
    # And with what is kept after it, there is nothing more to do.
    assert compare(found.schema, found.fingerprint, found) is None


BROKEN = {
    "another table": now(fingerprint=replace(PRINT, oid=9)),
    "another publication": now(fingerprint=replace(PRINT, publication="98/7/9")),
    "no publication": now(fingerprint=replace(PRINT, publication="")),
    "rewritten": now(fingerprint=parts({7: Part("", 71, "other")})),
    "a partition rewritten": now(fingerprint=parts({8: Part("5", 81, "other", born=True)})),
    "a partition truncated": now(fingerprint=parts({8: Part("5", 81, "m", born=True)})),
    "a partition rewritten before it was seen": now(
        fingerprint=parts({9: Part("6", 90, "m", born=True)})
    ),
    "attached": now(fingerprint=parts({9: Part("6", 90, "m")})),
    "detached": now(fingerprint=replace(PRINT, parts={7: PRINT.parts[7]})),
    "detached and attached again": now(fingerprint=parts({8: Part("6", 80, "m", born=True)})),
    "an attribute added": now(fingerprint=replace(PRINT, labels={1: "ok", -1: "other"})),
    "a label renamed": now(fingerprint=replace(PRINT, labels={1: "fine"})),
    "add with a default": now(with_columns(ID, V, N, column("x", 4)), replace(PRINT, filled=[4])),
    "add, not null": now(with_columns(ID, V, N, column("x", 4, nullable=False))),
    "add, generated": now(
        with_columns(ID, V, N, column("x", 4)), replace(PRINT, generated={4: "e"})
    ),
    "drop and add again": now(with_columns(ID, V, column("n", 4))),
    "another type": now(with_columns(ID, V, replace(N, type=SqlType("int8", 20)))),
    "another key": now(replace(SCHEMA, key=("n",))),
    "no key": now(replace(SCHEMA, key=(), whole_rows=True)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case: str) -> None:
    verdict = compare(SCHEMA, PRINT.text(), BROKEN[case])
    assert isinstance(verdict, Broken)
    assert verdict.copy_again
    assert verdict.table == TABLE
    assert verdict.why


def test_a_problem_is_not_mended_by_a_copy() -> None:
    verdict = compare(SCHEMA, PRINT.text(), now(problem="no identity"))
    assert verdict == Broken(TABLE, "no identity", copy_again=False)


def test_a_fingerprint_of_another_form_copies_again() -> None:
    verdict = compare(SCHEMA, "something", now())
    assert isinstance(verdict, Broken)
    assert verdict.copy_again


@pytest.mark.parametrize(("made", "broken"), [(0, False), (3, True), (4, False)])
def test_a_column_came_and_went_before_another_came(made: int, broken: bool) -> None:
    """Number 4 did, unless it was counted before; 0: by a fingerprint that did not count."""
    found = now(with_columns(ID, V, N, column("x", 5)))
    verdict = compare(SCHEMA, replace(PRINT, attributes=made).text(), found)
    assert isinstance(verdict, Broken) is broken


def test_a_table_that_was_not_published_yet() -> None:
    assert compare(SCHEMA, replace(PRINT, publication="").text(), now()) is None


def test_text_columns_stay_text() -> None:
    kept = with_columns(ID, V, replace(N, storage=Storage.TEXT))
    assert compare(kept, PRINT.text(), now()) is None
    verdict = compare(kept, PRINT.text(), now(with_columns(ID, replace(N, name="m"))))
    assert isinstance(verdict, SchemaChange)
    assert verdict.schema.columns[1].storage is Storage.TEXT


def varchar(length: int) -> SqlType:
    return SqlType("varchar", 1043, length + 4 if length else -1)


def numeric(precision: int, scale: int) -> SqlType:
    return SqlType("numeric", 1700, (precision << 16 | scale) + 4)


@pytest.mark.parametrize(
    ("old", "new", "faithful"),
    [
        (varchar(10), varchar(20), True),
        (varchar(10), TEXT, True),
        (TEXT, varchar(0), True),
        (varchar(20), varchar(10), False),
        (TEXT, varchar(10), False),
        (numeric(8, 2), numeric(10, 2), True),
        (numeric(8, 2), numeric(10, 3), False),
        (numeric(8, 2), numeric(7, 2), False),
        (SqlType("timestamp", 1114, 3), SqlType("timestamp", 1114), True),
        (SqlType("timestamp", 1114), SqlType("timestamp", 1114, 3), False),
        (SqlType("timestamp", 1114), SqlType("timestamptz", 1184), False),
        (INT, SqlType("oid", 26), False),
    ],
)
def test_widening(old: SqlType, new: SqlType, faithful: bool) -> None:
    before = with_columns(ID, column("v", 2, old))
    verdict = compare(before, PRINT.text(), now(with_columns(ID, column("v", 2, new))))
    assert isinstance(verdict, SchemaChange if faithful else Broken)


def test_partitions_named_by_wildcards_belong_to_their_root() -> None:
    settings: Settings = parse_settings(options(tables=["public.*", "old.part_1"]))
    assert settings.names("old", "part_1")
    assert not settings.names("public", "part_1")
