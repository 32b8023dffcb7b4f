"""The preflight against real servers: what is missing is found, and the SQL it names mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from htapkit.model import Finding, Severity
from htapkit.testing.postgres import Database
from htapkit_postgres import PostgresSource
from tests.followed import options

pytestmark = pytest.mark.integration


def errors(findings: list[Finding]) -> dict[str, Finding]:
    return {f.subject: f for f in findings if f.severity is Severity.ERROR}


def check(database: Database, role: str = "postgres", **settings: object) -> list[Finding]:
    source = PostgresSource(options(database, dsn=database.dsn_as(role), **settings))
    return list(source.check())


@pytest.fixture
def role(database: Database) -> str:
    name = f"role_{database.name}"
    database.execute(f"create role {name} login")
    return name


def test_a_superuser_finds_nothing_wrong(database: Database) -> None:
    database.execute("create table a (id int primary key)")
    findings = check(database)
    assert errors(findings) == {}
    assert {"wal_level", "table shop.public.a"} <= {f.subject for f in findings}
    limit = next(f for f in findings if f.subject == "max_slot_wal_keep_size")
    assert limit.severity is Severity.WARNING
    assert "ALTER SYSTEM" in limit.remedy


def test_slots_of_sinks(database: Database) -> None:
    """Those that are configured are counted and looked at; what a former one left is named."""
    database.execute("create table a (id int primary key)")
    wanted = options(database)
    source = PostgresSource(replace(wanted, readers=("events",)))
    own = str(wanted.settings["slot"])
    for name in ("gone", "events"):
        made = "select pg_create_logical_replication_slot(%s, 'pgoutput')"
        database.execute(made, [f"{own}_{name}"])
    try:
        found = {f.subject: f for f in source.check()}
        assert found[f"slot {own}"].message == "will be created"
        assert found[f"slot {own}_events"].severity is Severity.OK
        left = found[f"slot {own}_gone"]
        assert left.severity is Severity.WARNING
        database.execute(left.remedy)
        assert f"slot {own}_gone" not in {f.subject for f in source.check()}
    finally:
        database.execute("select pg_drop_replication_slot(%s)", [f"{own}_events"])


def test_nothing_is_changed(database: Database) -> None:
    database.execute("create table a (id int primary key)")
    state = (
        "select (select count(*) from pg_publication), "
        "(select count(*) from pg_replication_slots), "
        "(select max(xmin::text::bigint) from pg_class), pg_current_xact_id_if_assigned() is null"
    )
    before = database.execute(state)
    check(database)
    assert database.execute(state) == before


def test_an_ordinary_role_is_led_to_all_it_needs(database: Database, role: str) -> None:
    """Run what each error tells, as a superuser, until none is left: then following works."""
    database.execute("create role owner_" + database.name)
    database.execute(
        f"create schema app; grant create, usage on schema app to owner_{database.name}; "
        f"set role owner_{database.name}; create table app.a (id int primary key); "
        "alter table app.a enable row level security"
    )
    told = []
    for _ in range(8):
        findings = check(database, role, tables=["app.*"])
        wrong = [f for f in findings if f.severity is Severity.ERROR or f.subject == "role"]
        wrong = [f for f in wrong if f.severity is not Severity.OK]
        if not wrong:
            break
        for finding in wrong:
            sql = finding.remedy.split("  --")[0]
            assert sql, finding
            told.append(finding.message)
            database.execute(sql)
    text = "\n".join(told)
    for words in (
        "may not replicate",
        "right to use schema",
        "only its owner",
        "may not create it",
    ):
        assert words in text
    source = PostgresSource(options(database, dsn=database.dsn_as(role), tables=["app.*"]))
    source.follow(None, [d.schema for d in source.discover()]).close()


def test_row_level_security(database: Database, role: str) -> None:
    database.execute(
        "create table a (id int primary key); alter table a enable row level security; "
        f"grant select on a to {role}"
    )
    findings = [f for f in check(database, role) if "row-level" in f.message]
    assert [f.severity for f in findings] == [Severity.ERROR]
    database.execute(findings[0].remedy)
    assert not [f for f in check(database, role) if "row-level" in f.message]


def test_tables_without_identity(database: Database) -> None:
    database.execute("create table a (v text); create table b (v text)")
    found = errors(check(database, append_only=["public.b"]))
    assert set(found) == {"table shop.public.a"}
    remedy = found["table shop.public.a"].remedy
    assert "REPLICA IDENTITY FULL" in remedy
    assert "append_only" in remedy
    database.execute('ALTER TABLE "public"."a" REPLICA IDENTITY FULL')
    assert not errors(check(database, append_only=["public.b"]))


def test_no_table_matches(database: Database) -> None:
    assert set(errors(check(database))) == {"tables"}


def test_publications(database: Database) -> None:
    database.execute("create table a (id int primary key)")
    found = errors(check(database, create_publication=False))
    assert "does not exist" in found["publication htapkit_shop"].message
    database.execute("create publication htapkit_shop for table a (id) where (id > 5)")
    found = errors(check(database, create_publication=False))
    database.execute(found["publication htapkit_shop"].remedy)
    assert "leaves out rows" in found["table shop.public.a"].message
    database.execute(found["table shop.public.a"].remedy)
    assert not errors(check(database, create_publication=False))
    source = PostgresSource(options(database, create_publication=False))
    source.follow(None, [d.schema for d in source.discover()]).close()


def test_a_publication_of_updates_without_deletes(database: Database) -> None:
    """For append-only tables: each UPDATE at the source would fail."""
    database.execute("create table a (v text)")
    database.execute(
        "create publication htapkit_shop_append for table a with (publish = 'insert, update')"
    )
    found = errors(check(database, append_only=["public.a"]))
    assert set(found) == {"publication htapkit_shop_append", "table shop.public.a"}
    database.execute(found["publication htapkit_shop_append"].remedy)
    assert not errors(check(database, append_only=["public.a"]))
    database.execute("update a set v = 'x'")


def test_transactions_that_a_snapshot_waits_for(database: Database) -> None:
    database.execute("create table a (id int primary key)")
    database.execute("begin; insert into a values (1); prepare transaction 'waiting'")
    findings = [f for f in check(database) if f.subject == "transactions"]
    assert ["'waiting'" in f.message for f in findings] == [True]
    database.execute(findings[0].remedy.split("  --")[0])
    assert not [f for f in check(database) if f.subject == "transactions"]


def test_our_slot(database: Database) -> None:
    database.execute("create table a (id int primary key)")
    source = PostgresSource(options(database))
    source.follow(None, [d.schema for d in source.discover()]).close()
    slot = next(f for f in source.check() if f.subject.startswith("slot "))
    assert slot.severity is Severity.OK
    assert "confirmed to" in slot.message
    other = PostgresSource(options(database, dsn=database.server.dsn(), tables=["pg_temp.x"]))
    slot = next(f for f in other.check() if f.subject.startswith("slot "))
    assert slot.severity is Severity.ERROR
    assert database.name in slot.message
