"""Rows loaded into a real node, over CQL and as files: exact, repeatable, or refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cassandra import util
from cassandra.cluster import Session
from click.testing import CliRunner

from htapkit.model import TableId
from htapkit.testing.postgres import free_port
from htapkit.testing.stack import Stack
from htapkit_cassandra import destination, load_command, loading
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.journal import LoadBusy
from htapkit_cassandra.loading import Load, Prepared
from htapkit_cassandra.reading import RowsRejected
from htapkit_cassandra.settings import Node
from tests.fix_cassandra import SECONDS, Keyspace, connected, running_node
from tests.fix_loads import Loads
from tests.fix_loads import nothing as _nothing

pytestmark = pytest.mark.cassandra
_TYPED = """CREATE TABLE {ks}.{name} (
    p text, q int, c timestamp, d text, s text STATIC, ti tinyint, si smallint, bi bigint,
    f float, db double, b boolean, dc decimal, vi varint, u uuid, tu timeuuid, da date,
    tm time, du duration, ip inet, bl blob, li list<int>, se set<text>, ma map<text, int>,
    pa pair, fr frozen<pair>, tp tuple<int, text>, ve vector<float, 3>,
    nested frozen<map<int, frozen<list<timestamp>>>>, PRIMARY KEY ((p, q), c, d)
) WITH CLUSTERING ORDER BY (c DESC, d ASC) AND cdc = {cdc} AND default_time_to_live = {ttl}"""
_ROWS = 200


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is stopped at the test's end."""
    with ExitStack() as stack:
        yield stack


def _typed(rolled: random.Random, number: int) -> list[object]:
    """A row of _TYPED as the driver takes it."""
    text = "".join(rolled.choices('aé"\\{} \n', k=4))
    pair = (rolled.randrange(-9, 9), rolled.choice([None, text]))
    moment = datetime(1969, 1, 1, tzinfo=UTC) + timedelta(milliseconds=rolled.randrange(10**13))
    maybe: list[object] = [
        rolled.randrange(-128, 128), rolled.randrange(-(2**15), 2**15),
        rolled.randrange(-(2**63), 2**63), rolled.uniform(-1e9, 1e9), rolled.gauss(0, 1e200),
        rolled.random() < 0.5, Decimal(rolled.randrange(-(10**30), 10**30)).scaleb(-7),
        rolled.randrange(-(10**40), 10**40), uuid.UUID(int=rolled.getrandbits(128)),
        util.min_uuid_from_time(rolled.uniform(0, 2e9)), util.Date(rolled.randrange(-9**6, 9**6)),
        util.Time(rolled.randrange(86_400 * 10**9)),
        util.Duration(*[rolled.choice([-1, 1]) * n for n in (0, 0, rolled.randrange(10**12))]),
        rolled.choice(["10.1.2.3", "fe80::1", "::ffff:10.0.0.1"]), rolled.randbytes(5),
        [rolled.randrange(9) for _ in range(rolled.randrange(4))], {text, text[:2]},
        {text: 1, "k": number}, pair, pair, (pair[0], pair[1]),
        [rolled.uniform(-9, 9) for _ in range(3)],
        {rolled.randrange(9): [moment, moment], 9: []},
    ]  # fmt: skip
    partition = number % 20
    key = [f"p{partition}", partition, moment, "" if number % 7 == 0 else text]
    shared = f"shared by {partition}" if partition % 3 else None
    return [*key, shared, *(None if rolled.random() < 0.2 else value for value in maybe)]


def _command(stack: Stack, *arguments: str) -> dict[str, Any]:
    """`htapkit cassandra-load`, which succeeds, and what it prints."""
    command = [sys.executable, "-m", "htapkit", "cassandra-load", *arguments]
    command += ["--config", str(stack.config_path), "--json", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_rows_of_the_copy_come_back_into_other_tables(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """Of every type, by both methods; what was loaded as files is in the copy, by the log."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    rolled, ks, session = random.Random(seed), keyspace.name, keyspace.session
    session.execute(f"CREATE TYPE {ks}.pair (a int, b text)")
    for name, cdc, ttl in (("a", "true", 0), ("b", "false", 900_000), ('"C"', "true", 900_000)):
        session.execute(_TYPED.format(ks=ks, name=name, cdc=cdc, ttl=ttl))
    insert = session.prepare(f"INSERT INTO {ks}.a VALUES ({', '.join('?' * 28)})".replace(
        "VALUES", "(p, q, c, d, s, ti, si, bi, f, db, b, dc, vi, u, tu, da, tm, du, ip, bl, li, se,"
        " ma, pa, fr, tp, ve, nested) VALUES"))  # fmt: skip
    for number in range(_ROWS):
        session.execute(insert, _typed(rolled, number))
    settings = keyspace.node.settings(tables=[f"{ks}.*", f"!{ks}.b"])
    listen = f"127.0.0.1:{free_port()}"
    stack = running.enter_context(
        Stack(
            tmp_path / "stack",
            {"events": {"connector": "cassandra", **settings}},
            configuration={"servers": {"flight": {"listen": listen, "auth": "trust"}}},
        )
    )
    stack.wait_ready(SECONDS)
    expected = _json(session, f"{ks}.a")
    assert len(expected) > _ROWS // 2
    for name, method in (("b", "cql"), ("C", "sstable")):
        query = f"SELECT * FROM {ks}.a"
        found = _command(stack, f"events.{ks}.{name}", "--query", query, "--method", method)
        assert (found["method"], found["rows"], found["rejected"]) == (method, len(expected), 0)
        assert (found["compared"], found["equal"]) == (len(expected), True)
        assert _json(session, f'{ks}."{name}"') == expected
        ends = session.execute(f'SELECT min(ttl(bi)) AS least FROM {ks}."{name}"').one()
        assert 0 < ends.least <= 900_000
    with closing(connected(stack, "events")) as connection:
        shown = [
            sorted(connection.execute(f'SELECT * FROM {ks}."{name}"'.encode()).fetchall(), key=repr)
            for name in "aC"
        ]
    assert shown[0]
    assert shown[1] == shown[0]


def _json(session: Session, table: str) -> list[str]:
    return sorted(row.json for row in session.execute(f"SELECT JSON * FROM {table}"))


def test_what_does_not_fit_is_refused_and_nothing_written(loads: Loads) -> None:
    """Columns, types, rows, keys: each with its reason and SQLSTATE."""
    loads.create("k int, c int, s text STATIC, v int, PRIMARY KEY (k, c)")
    loads.create("k int PRIMARY KEY, n counter", name="counts")
    key = {"k": [1, 1], "c": [1, 2]}
    whys = [
        (loads.parquet(k=[1]), "42703", "no column c, which its key needs"),
        (loads.parquet(**key, x=[1, 2]), "42703", "no column x; it has k, c, s, v"),
        (loads.parquet(**key, v=["1", "2"]), "42804", "column v: string is given, and int takes"),
        (loads.parquet(k=[1, None], c=[1, 2]), "22000", "row 2: k: NULL, in a column of the key"),
        (loads.parquet(**key, v=[1, 2**40]), "22000", "row 2: v: beyond its range"),
        (loads.parquet(**key, s=["a", "b"]), "22000", "row 2: s: static, and other than in an"),
        (loads.parquet(k=[1, 2, 1], c=[1, 2, 1], v=[1, 2, 3]), "21000", "1 rows have the key"),
    ]
    for path, state, why in whys:
        refused = loads.refused(path)
        assert why in str(refused)
        assert refused.sqlstate == state
    assert "table of counters" in str(loads.refused(loads.parquet(k=[1], n=[1]), "counts"))
    missing = loads.refused(loads.parquet(k=[1]), "nowhere")
    assert (missing.sqlstate, "make the table first" in str(missing)) == ("42P01", True)
    assert loads.rows() == []
    assert not [p for p in loads.folder.rglob("load/*/*") if p.name not in {"lock", "rejected.csv"}]


def test_the_command_asks_first_and_says_what_it_did(loads: Loads) -> None:
    """Its exit codes: 0 done, 1 something is not as it was given, 2 refused."""
    loads.create("k int PRIMARY KEY, v int, w int")
    settings = {"connector": "cassandra", **loads.keyspace.node.settings()}
    config = loads.folder / "htapkit.yaml"
    data = str(loads.folder / "data")
    config.write_text(json.dumps({"data_dir": data, "sources": {"events": settings}}))
    table = f"events.{loads.keyspace.name}.t"

    def run(path: Path, *more: str, answer: str = "") -> tuple[int, str]:
        command = [sys.executable, "-m", "htapkit", "cassandra-load", table, "--parquet", str(path)]
        command += ["--consistency", "ONE", "--config", str(config), *more]
        done = subprocess.run(
            command, input=answer, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return done.returncode, done.stdout + done.stderr

    path = loads.parquet(k=[1, 2, None], v=[1, 2, 3])
    code, said = run(path, "--dry-run")
    assert (code, "row 3: k: NULL, in a column of the key; all of them: " in said) == (2, True)
    code, said = run(path, "--max-rejected", "1", "--dry-run")
    assert (code, "2 rows would be written (cql); nothing was" in said) == (1, True)
    code, said = run(path, "--max-rejected", "1", answer="n\n")
    assert (code, f"{table}: write 2 rows into it (cql)? [y/N]" in said) == (1, True)
    assert "nothing was" in said
    assert loads.rows() == []
    code, said = run(path, "--max-rejected", "1", answer="y\n")
    assert code == 1
    for part in ("2 of them read back: 0 are missing, 0 different", "stay as they are: w",
                 "1 rows rejected", f"{path.name}, row 3: k: NULL"):  # fmt: skip
        assert part in said
    code, said = run(loads.parquet(k=[5]), "--yes")
    assert (code, f"{table}: 1 rows written (cql) in" in said) == (0, True)
    assert [row.k for row in loads.rows("k")] == [1, 2, 5]


def test_what_the_copy_cannot_hold_is_rejected(loads: Loads) -> None:
    """Of a table that is followed: it would be taken out of the copy."""
    for name, cdc in (("followed", "true"), ("alone", "false")):
        loads.create("k int PRIMARY KEY, v text, d decimal", f"WITH cdc = {cdc}", name)
    path = loads.parquet(k=[1, 2, 3], v=["a", "a\0", "b"], d=["1", "2", "1e5000"])
    refused = str(loads.refused(path, "followed"))
    assert "row 2: v: a text with a NUL character" in refused
    assert "row 3: d: a decimal with an exponent of 5000; the table is followed" in refused
    assert loads.run(path, "alone").compared.equal == 3


def test_rejected_rows_may_be_left_out(loads: Loads) -> None:
    """As many as are allowed; a file names each."""
    loads.create("k int PRIMARY KEY, t timestamp")
    at = pa.array([1_000, 1_001, None, 2_000], pa.timestamp("us", "UTC"))
    path = loads.parquet(k=[1, 2, None, 4], t=at)
    assert isinstance(loads.refused(path, rejected_max=1), RowsRejected)
    load = loads.load(rejected_max=2)
    with load.locked():
        prepared = load.prepare(ParquetInput(path), _nothing)
        loaded = load.write(prepared, _nothing)
    assert (prepared.state.rows, prepared.state.rejected) == (2, 2)
    assert loaded.compared.equal == 2
    lines = load.rejects.read_text().splitlines()
    assert lines[0] == "file,row,reason"
    assert lines[1].startswith(f'{path.name},2,"t: it has microseconds')
    assert lines[2] == f'{path.name},3,"k: NULL, in a column of the key"'
    assert [row.k for row in loads.rows("k")] == [1, 4]


def _cut_off(load: Load, path: Path, at: int) -> None:
    """A load that ends when so many rows are written."""

    def told(what: str, done: int, _: int | None) -> None:
        if what in {"written", "made into files"} and done >= at:
            raise KeyboardInterrupt

    with load.locked(), pytest.raises(KeyboardInterrupt):
        load.write(load.prepare(ParquetInput(path), told), told)


@pytest.mark.parametrize("method", ["cql", pytest.param("sstable", marks=pytest.mark.long)])
def test_an_interrupted_load_goes_on(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """At its first time: what others wrote since stays. Lists are not doubled."""
    monkeypatch.setattr(loading, "_NOTED_ROWS", 2_000)
    loads.create("k int PRIMARY KEY, v int, l list<int>, gone int")
    loads.session.execute(f"INSERT INTO {loads.keyspace.name}.t (k, v, gone) VALUES (5, 1, 1)")
    ks, rows = list(range(4_000)), 4_000
    path = loads.parquet(k=ks, v=ks, l=[f"[{k}, {k}]" for k in ks], gone=pa.nulls(rows, pa.int32()))
    _cut_off(loads.load(method=method), path, 3_000)
    loads.session.execute(f"INSERT INTO {loads.keyspace.name}.t (k, v) VALUES (2500, -7)")
    other = loads.refused(loads.parquet(k=[1]), method=method)
    assert "a load of other rows was interrupted" in str(other)
    elsewhen = loads.refused(path, method=method, written_at=5)
    assert "the load that was interrupted writes at " in str(elsewhen)
    load = loads.load(method=method)
    with load.locked():
        with pytest.raises(LoadBusy), loads.load().locked():
            pass
        prepared = load.prepare(ParquetInput(path), _nothing)
        assert prepared.resumed
        read_at = f"{datetime.fromtimestamp(prepared.state.read_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        assert f"go on and write the 4,000 rows that were read at {read_at}" in _asked(prepared)
        assert prepared.state.written == (2_000 if method == "cql" else 0)
        loaded = load.write(prepared, _nothing)
    assert dict(loaded.compared.columns) == {"v": 1}
    assert loaded.compared.examples == ["row 2501 has another v"]
    expected = [(k, -7 if k == 2_500 else k, [k, k], None) for k in ks]
    assert [tuple(row) for row in loads.rows("k, v, l, gone")] == expected
    assert loads.run(path, method=method).compared.equal == rows
    times = {row[0] for row in loads.rows("writetime(v)")}
    assert len(times) == 1, "repeated as a whole, it is a new load"


def _asked(prepared: Prepared) -> str:
    """The question, answered with no."""
    with CliRunner().isolation(input="n\n") as (_, said, __):
        assert not load_command._agreed(prepared)
        return said.getvalue().decode()


def test_a_load_that_is_declined_is_forgotten(loads: Loads) -> None:
    """The same command later reads its rows anew, and another one is not refused."""
    loads.create("k int PRIMARY KEY, v int")
    path, load = loads.parquet(k=[1], v=[1]), loads.load()
    for _ in range(2):
        with load.locked():
            prepared = load.prepare(ParquetInput(path), _nothing)
            assert not prepared.resumed
            assert "t: write 1 rows into it (cql)?" in _asked(prepared)
        assert not [p for p in loads.folder.rglob("load/*/*")
                    if p.name not in {"lock", "rejected.csv"}]  # fmt: skip
    assert loads.run(loads.parquet(k=[2], v=[2])).compared.equal == 1
    assert [tuple(row) for row in loads.rows("k, v")] == [(2, 2)]


def test_a_given_time_decides(loads: Loads) -> None:
    """Repeated at the same time, nothing changes; later writes stay."""
    loads.create("k int PRIMARY KEY, v int")
    path = loads.parquet(k=[1, 2], v=[1, 2])
    assert loads.run(path, written_at=1_000).compared.equal == 2
    ks = loads.keyspace.name
    loads.session.execute(f"UPDATE {ks}.t USING TIMESTAMP 1001 SET v = 9 WHERE k = 2")
    loaded = loads.run(path, written_at=1_000)
    assert (loaded.compared.equal, loaded.compared.different) == (1, 1)
    assert [tuple(r) for r in loads.rows("k, v, writetime(v)")] == [(1, 1, 1_000), (2, 9, 1_001)]


def test_files_of_another_format_are_not_loaded(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at first: the node would say nothing."""
    loads.create("k int PRIMARY KEY, v int")
    path = loads.parquet(k=[1, 2], v=[1, 2])
    with monkeypatch.context() as patched:
        patched.setitem(destination._FORMATS, "5.0", {"": "oa"})
        refused = loads.refused(path, method="sstable")
        assert "files of format nb with 2 of 2 rows were made, and the node takes oa" in str(
            refused
        )
        patched.setitem(destination._FORMATS, "5.0", {})
        assert "ignores files of another format" in str(loads.refused(path, method="sstable"))
    to = destination.find(loads.settings, TableId("events", loads.keyspace.name, "t"))
    assert destination.no_files(loads.settings, to) == ""
    why = destination.no_files(loads.settings, replace(to, mode="NONE"))  # so the first one said
    assert why == "at node 127.0.0.1: files have another format there"
    (here,), jmx = loads.settings.hosts, loads.settings.jmx_port
    nodes = (Node(here, jmx_port=jmx), Node("127.0.0.254"))
    loads.settings = replace(loads.settings, nodes=nodes)
    assert "not every node says whether" in str(loads.refused(path, method="sstable"))
    assert loads.rows() == []


@pytest.mark.long
def test_reading_back_sees_files_that_a_node_ignored(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here, because we are mistaken about its storage mode."""
    loads.create("k int PRIMARY KEY, v int")
    path = loads.parquet(k=[1, 2], v=[1, 2])
    asked = destination._of_node

    def mistaken(opened: Session) -> dict[str, Any]:
        return {**asked(opened), "mode": "NONE"}

    with monkeypatch.context() as patched:
        patched.setattr(destination, "_of_node", mistaken)
        loaded = loads.run(path, method="sstable")
    assert (loaded.compared.compared, loaded.compared.missing) == (2, 2)
    assert loads.run(path, method="sstable").compared.equal == 2


@pytest.mark.long
def test_a_node_of_another_storage_mode(tmp_path: Path) -> None:
    """Gets its own format."""
    change = (
        "cluster_name: htapkit\n",
        "cluster_name: htapkit\nstorage_compatibility_mode: NONE\n",
    )
    with running_node(change) as node, node.session() as session:
        session.execute(
            "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy',"
            " 'replication_factor': 1}"
        )
        loads = Loads(Keyspace(node, session, "k"), tmp_path)
        loads.create("k int PRIMARY KEY, v int")
        path = loads.parquet(k=list(range(500)), v=list(range(500)))
        loaded = loads.run(path, method="sstable")
        assert loaded.compared.equal == 500
        assert list(node.folder.glob("data/k/t-*/oa-*-Data.db"))
