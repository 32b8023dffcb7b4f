"""Each finding of the preflight, from facts alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from htapkit.model import Column, Finding, Severity, SqlType, TableId, TableSchema
from htapkit.spi import Discovered, SourceOptions
from htapkit_postgres import preflight
from htapkit_postgres.connection import parse_settings
from htapkit_postgres.fingerprint import Fingerprint
from htapkit_postgres.preflight import Facts, Rights
from htapkit_postgres.shelf import Publication
from htapkit_postgres.slot import Server, Slot

SETTINGS = parse_settings(
    SourceOptions("shop", {"dsn": "postgresql://app@h/shop"}, 10, 1, 1, 1, 1, None)
)
FACTS = Facts(
    version=160014,
    wal_level="logical",
    slots_max=10,
    senders_max=10,
    keep_size="10GB",
    encoding="UTF8",
    sender_timeout="1min",
    user="app",
    superuser=False,
    replication=True,
    bypass_rls=False,
    rds_replication=False,
    create=True,
    slots_used=0,
    senders_used=0,
    standby_slots=None,
    standby=False,
)
SERVER = Server("1", "shop", standby=False, end=5000, timeline=1)
SLOT = Slot("shop", "pgoutput", None, 4000, 4500, "reserved", None, "")
PUBLICATION = Publication(5, "htapkit_shop", True, True, True, "", False, "app", True, "7", {})
BOTH = ("htapkit_shop", "htapkit_shop_append")
TABLE = TableId("shop", "public", "orders")
RIGHTS = Rights(True, True, True, False, "app")


def worst(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """(severity, subject) of all that is not good."""
    return [(f.severity.value, f.subject) for f in findings if f.severity is not Severity.OK]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"version": 140010}, [("error", "version")]),
        ({"version": 190000}, [("error", "version")]),
        ({"version": 150012}, [("warning", "version")]),
        ({"version": 150013}, []),
        ({"version": 160008}, [("warning", "version")]),
        ({"version": 180000}, []),
        ({"wal_level": "replica"}, [("error", "wal_level")]),
        ({"standby": True}, [("error", "server")]),
        ({"encoding": "SQL_ASCII"}, [("warning", "server_encoding")]),
        ({"keep_size": "-1"}, [("warning", "max_slot_wal_keep_size")]),
    ],
)
def test_the_server(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert worst(preflight.server_findings(replace(FACTS, **change))) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"replication": False}, ["error"]),
        ({"replication": False, "rds_replication": True}, []),
        ({"replication": False, "superuser": True}, []),
    ],
)
def test_the_role(change: dict[str, Any], expected: list[str]) -> None:
    found = preflight.role_findings(replace(FACTS, **change))
    assert [severity for severity, _ in worst(found)] == expected


@pytest.mark.parametrize(
    ("slots", "senders", "has_slot", "expected"),
    [
        (8, 8, False, []),
        (9, 8, False, ["max_replication_slots"]),
        (9, 9, True, []),
        (10, 9, True, ["max_replication_slots"]),
        (8, 9, False, ["max_wal_senders"]),
    ],
)
def test_capacity(slots: int, senders: int, has_slot: bool, expected: list[str]) -> None:
    facts = replace(FACTS, slots_used=slots, senders_used=senders)
    found = worst(preflight.capacity_findings(facts, [has_slot]))
    assert found == [("error", subject) for subject in expected]


def test_capacity_for_sinks() -> None:
    """Each has a slot, and copies while the copy copies."""
    facts = replace(FACTS, slots_used=7, senders_used=5)
    assert not worst(preflight.capacity_findings(facts, [True, False]))
    found = worst(preflight.capacity_findings(facts, [True, False, False]))
    assert found == [("error", "max_replication_slots")]


def test_slots_that_are_left() -> None:
    found = list(preflight.left_findings([("htapkit_shop_events", 7)]))
    assert [f.remedy for f in found] == ["SELECT pg_drop_replication_slot('htapkit_shop_events')"]


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        (None, []),
        (SLOT, []),
        (replace(SLOT, database="other"), ["error"]),
        (replace(SLOT, plugin="wal2json"), ["error"]),
        (replace(SLOT, wal_status="lost"), ["warning"]),
        (replace(SLOT, reason="idle_timeout"), ["warning"]),
        (replace(SLOT, restart=100), ["warning"]),
        (replace(SLOT, safe_bytes=10), ["warning"]),
        (replace(SLOT, safe_bytes=10_000), []),
    ],
)
def test_the_slot(slot: Slot | None, expected: list[str]) -> None:
    found = worst(preflight.slot_findings(SETTINGS, SERVER, slot, 2000))
    assert [severity for severity, _ in found] == expected


def test_transactions() -> None:
    found = list(preflight.transaction_findings([(7, 61.0, ""), (8, 5.0, ""), (0, 5.0, "it's")]))
    assert [f.remedy.split("  --")[0] for f in found] == [
        "SELECT pg_terminate_backend(7)",
        "ROLLBACK PREPARED 'it''s'",
    ]


@pytest.mark.parametrize(
    ("change", "version", "expected"),
    [
        ({}, 160000, []),
        ({}, 180000, ["error"]),
        ({"generated": "s"}, 180000, []),
        ({"updates": False}, 160000, ["error"]),
        ({"updates": None}, 160000, ["error"]),
        ({"via_root": False}, 160000, ["error"]),
        ({"inserts": False}, 160000, ["error"]),
        ({"owned": False}, 160000, ["error"]),
    ],
)
def test_the_publication(change: dict[str, Any], version: int, expected: list[str]) -> None:
    publication = replace(PUBLICATION, **change)
    facts = replace(FACTS, version=version)
    found = preflight.publication_findings(SETTINGS, facts, "shop", {"htapkit_shop": publication})
    assert [severity for severity, _ in worst(found)] == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, []), ({"create": False}, ["error"]), ({"create": False, "superuser": True}, [])],
)
def test_a_publication_that_is_not_there_yet(change: dict[str, Any], expected: list[str]) -> None:
    found = list(preflight.publication_findings(SETTINGS, replace(FACTS, **change), "shop", {}))
    assert [finding.subject for finding in found] == [f"publication {p}" for p in BOTH]
    assert [severity for severity, _ in worst(found)] == expected * 2
    assert {finding.remedy for finding in found} == {
        'GRANT CREATE ON DATABASE "shop" TO "app"' if expected else ""
    }


@pytest.mark.parametrize(("append_only", "missing"), [((), 1), (("public.log",), 2)])
def test_a_publication_that_others_are_to_make(append_only: tuple[str, ...], missing: int) -> None:
    settings = replace(SETTINGS, create_publication=False, append_only=append_only)
    found = worst(preflight.publication_findings(settings, FACTS, "shop", {}))
    assert found == [("error", f"publication {name}") for name in BOTH[:missing]]


def test_the_publication_of_append_only_tables_sends_no_updates() -> None:
    appending = replace(PUBLICATION, name="htapkit_shop_append", updates=False)
    both = {"htapkit_shop": PUBLICATION, "htapkit_shop_append": appending}
    assert worst(preflight.publication_findings(SETTINGS, FACTS, "shop", both)) == []
    for updates in (True, None):
        both["htapkit_shop_append"] = replace(appending, updates=updates)
        assert worst(preflight.publication_findings(SETTINGS, FACTS, "shop", both)) == [
            ("error", "publication htapkit_shop_append")
        ]


def table(problem: str = "", publication: str = "", **schema: Any) -> Discovered:
    column = Column("id", SqlType("int4", 23), 1)
    made = TableSchema(TABLE, (column,), key=("id",))
    fingerprint = Fingerprint(1, {}, publication)
    return Discovered(replace(made, **schema), fingerprint.text(), problem=problem)


@pytest.mark.parametrize(
    ("found", "rights", "expected"),
    [
        (table(), RIGHTS, []),
        (table(key=(), append_only=True), RIGHTS, ["warning"]),
        (table(key=(), whole_rows=True), RIGHTS, []),
        (table("no identity; ALTER TABLE"), RIGHTS, ["error"]),
        (table(), replace(RIGHTS, select=False), ["error"]),
        (table(), replace(RIGHTS, schema_usage=False), ["error"]),
        (table(), replace(RIGHTS, row_security=True), ["error"]),
        (table(), replace(RIGHTS, owner=False), ["error"]),
        (table(publication="5/7/9"), replace(RIGHTS, owner=False), []),
    ],
)
def test_tables(found: Discovered, rights: Rights, expected: list[str]) -> None:
    findings = list(preflight.table_findings(SETTINGS, "me", [found], {str(TABLE): rights}, {}))
    assert [severity for severity, _ in worst(findings)] == expected
    assert all(f.subject == f"table {TABLE}" for f in findings)
    for finding in findings:  # whoever executes it
        assert "CURRENT_USER" not in finding.remedy
    if found.problem:
        assert (findings[0].message, findings[0].remedy) == ("no identity", "ALTER TABLE")
