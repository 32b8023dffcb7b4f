"""What a real node says of its tables, and the preflight over it."""

from __future__ import annotations

import pytest
from cassandra import DriverException

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit.model import Broken, Severity, SqlType
from htapkit.spi import Discovered, Source, SourceOptions, load_source
from htapkit.testing.postgres import free_port
from htapkit_cassandra.types import SCALARS
from tests.fix_cassandra import HAS_VECTORS, Keyspace

pytestmark = pytest.mark.cassandra


def _found(keyspace: Keyspace) -> dict[str, Discovered]:
    return {d.schema.table.name: d for d in keyspace.source().discover()}


def test_every_type_is_discovered(keyspace: Keyspace) -> None:
    """Each scalar in its type; whatever is put together as json."""
    ks, session = keyspace.name, keyspace.session
    scalars = [t for t in SCALARS if t != "counter"]
    session.execute(f"CREATE TYPE {ks}.place (street text, spots frozen<list<int>>)")
    compound = ["list<int>", "frozen<map<text, int>>", "set<uuid>", "tuple<int, text>"]
    compound += ["place", "frozen<place>"]
    vectors = ["vector<int, 3>", "vector<float, 3>"] if HAS_VECTORS else []
    columns = [f"c{n} {t}" for n, t in enumerate(scalars + compound + vectors)]
    session.execute(
        f'CREATE TABLE {ks}.t ("Key" uuid, at timestamp, shared text static, {", ".join(columns)},'
        ' PRIMARY KEY ("Key", at)) WITH cdc = true'
    )
    schema = _found(keyspace)["t"].schema
    assert schema.key == ("Key", "at")
    assert [c.name for c in schema.columns[:3]] == ["Key", "at", "shared"]
    assert [c.name for c in schema.columns if not c.nullable] == ["Key"], "static without a row"
    types = {c.name: c.type for c in schema.columns}
    assert [types[f"c{n}"] for n in range(len(scalars))] == [SCALARS[t] for t in scalars]
    later = range(len(scalars), len(scalars + compound))
    assert {types[f"c{n}"] for n in later} == {SqlType("json", 114)}
    found = [types[f"c{n}"] for n in range(later.stop, len(columns))]
    assert found == [SqlType("json", 114), SqlType("vector", 114, 3, "v")][: len(vectors)]


def test_what_leaves_no_trace_in_the_log_changes_the_fingerprint(keyspace: Keyspace) -> None:
    """TRUNCATE, ALTER, and a table made again; rows do not."""
    ks, session = keyspace.name, keyspace.session
    create = f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v text) WITH cdc = true"
    session.execute(create)
    source = keyspace.source()

    def became(before: Discovered) -> tuple[Discovered, str]:
        now = _found(keyspace)["t"]
        broken = source.compare(before.schema, before.fingerprint, now)
        assert broken is None or isinstance(broken, Broken)
        return now, broken.why if broken else ""

    now = _found(keyspace)["t"]
    session.execute(f"INSERT INTO {ks}.t (id, v) VALUES (1, 'x')")
    assert became(now)[1] == ""
    session.execute(f"TRUNCATE {ks}.t")
    now, why = became(now)
    assert "truncated" in why
    session.execute(f"ALTER TABLE {ks}.t ADD w int")
    now, why = became(now)
    assert "columns" in why
    session.execute(f"ALTER TABLE {ks}.t DROP w")
    now, why = became(now)
    assert "columns" in why
    session.execute(f"ALTER TABLE {ks}.t ADD w int")
    now, why = became(now)
    assert "columns" in why
    session.execute(f"ALTER TABLE {ks}.t DROP w")
    session.execute(f"ALTER TABLE {ks}.t ADD w int")
    now, why = became(now)
    assert why == "a column of it was dropped and added again"
    assert became(now)[1] == ""
    session.execute(f"DROP TABLE {ks}.t")
    session.execute(create)
    assert "dropped" in became(now)[1]


def test_check_names_what_is_missing_and_its_remedy_works(keyspace: Keyspace) -> None:
    """A table without cdc; one with a counter is as good as any."""
    ks, session = keyspace.name, keyspace.session
    session.execute(f"CREATE TABLE {ks}.off (id int PRIMARY KEY)")
    session.execute(f"CREATE TABLE {ks}.counted (id int PRIMARY KEY, n counter) WITH cdc = true")

    def errors(source: Source) -> dict[str, tuple[str, str]]:
        findings = [f for f in source.check() if f.severity is Severity.ERROR]
        return {f.subject: (f.message, f.remedy) for f in findings}

    found = errors(keyspace.source())
    subject = f"table events.{ks}.off"
    assert found.keys() == {subject}
    session.execute(found[subject][1])
    assert subject not in errors(keyspace.source())
    assert "cdc_raw" in errors(keyspace.source(cdc_raw=str(keyspace.node.folder / "none")))


def test_a_log_that_cannot_have_everything_is_not_followed(keyspace: Keyspace) -> None:
    """What `check` calls an error is one: a copy would silently lack changes."""
    source = keyspace.source(cdc_raw=str(keyspace.node.folder / "none"))
    with pytest.raises(SourceRefused, match=r"cdc_raw: .*cannot be read"):
        source.follow(None, [])


def test_values_that_the_driver_cannot_decode(keyspace: Keyspace) -> None:
    """What one row holds says nothing about the right to read its table."""
    ks, session = keyspace.name, keyspace.session
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v set<timestamp>) WITH cdc = true")
    session.execute(f"INSERT INTO {ks}.t (id, v) VALUES (1, {{9223372036854775}})")
    with pytest.raises(DriverException, match="decoding"):
        session.execute(f"SELECT v FROM {ks}.t")
    found = {f.subject: f.severity for f in keyspace.source().check()}
    assert Severity.ERROR not in found.values(), found
    assert found[f"table events.{ks}.t"] is Severity.OK


def test_a_node_that_does_not_answer() -> None:
    """A finding, and an error that may be tried again."""
    settings = {"hosts": ["127.0.0.1"], "port": free_port()}
    source = load_source("cassandra", SourceOptions("events", settings, 5, 1, 1, 1, 1, None))
    with pytest.raises(SourceUnavailable, match="events"):
        source.discover()
    with pytest.raises(SourceUnavailable, match="events"):
        source.follow(None, [])
    assert "port" in [f.message for f in source.check() if f.severity is Severity.ERROR][-1]
