"""Every command against a real server: what a person types, sees, and gets as an exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import httpx
import psutil
import psycopg
import pytest

from htapkit.testing.postgres import Database, free_port
from htapkit.testing.stack import Stack, wait_until

pytestmark = pytest.mark.integration
SOURCE = "connector: postgres, dsn: 'host=127.0.0.1 port=1', tables: ['a.b']"


def htapkit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as its user would."""
    return subprocess.run(
        [sys.executable, "-m", "htapkit", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    """A server over two tables; ports fixed in the file, so that the commands find them."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, v text, n numeric(10,2))")
        rows = "SELECT g, 'v' || g, g FROM generate_series(1, 500) g"
        connection.execute(f"INSERT INTO orders {rows}")
        connection.execute("CREATE TABLE plain (a int)")
    # The commands read the addresses from the file.
    servers = {
        "pgwire": {"listen": f"127.0.0.1:{free_port()}", "auth": "trust"},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
    }
    sources = {"shop": {"dsn": database.dsn, "tables": ["public.orders"]}}
    with Stack(tmp_path, sources, configuration={"servers": servers}) as made:
        made.wait_ready()
        yield made


def _status_by_api(stack: Stack) -> dict[str, object]:
    with stack.client() as client:
        return dict(client.status()["sources"][0]["tables"][0])


def _status(stack: Stack) -> dict[str, object]:
    found = json.loads(htapkit(stack.folder, "status", "--json").stdout)
    table = found["sources"][0]["tables"][0]
    assert isinstance(table, dict)
    return table


def test_status_shows_tables(stack: Stack) -> None:
    """For people and for programs."""
    shown = htapkit(stack.folder, "status")
    assert shown.returncode == 0
    assert "shop.public.orders" in shown.stdout
    assert "following" in shown.stdout
    assert _status(stack)["rows"] == 500


def test_rules_of_a_table_change_while_the_server_runs(stack: Stack) -> None:
    """By the command and by a signal; what cannot change is named, a mistake changes nothing."""
    before = stack.config_path.read_text() + "limits: {memory: 1GB}\n"
    later = "only with the next start: limits\n"
    table = "tables: {shop.public.orders: {hot: HOT}}\n"
    stack.config_path.write_text(before + table.replace("HOT", "7 days"))
    done = htapkit(stack.folder, "reload")
    assert (done.returncode, done.stdout) == (0, "changed: shop.public.orders\n" + later)
    assert _status(stack)["hot"] == 7 * 86_400
    stack.config_path.write_text(before + table.replace("HOT", "soon"))
    wrong = httpx.post(f"http://127.0.0.1:{stack.http_port}/api/v1/reload")
    assert wrong.is_error
    assert "tables.shop.public.orders.hot" in wrong.json()["error"]
    assert _status_by_api(stack)["hot"] == 7 * 86_400
    stack.config_path.write_text(before + table.replace("HOT", "1 day"))
    os.kill(stack.pid, signal.SIGHUP)
    wait_until(lambda: _status(stack)["hot"] == 86_400, 60, stack.log_end)
    told = json.loads(htapkit(stack.folder, "reload", "--json").stdout)
    assert told == {"tables": [], "restart_for": ["limits"]}


def test_sql_and_explain(stack: Stack) -> None:
    """The rows, and the route that gave them."""
    sql = "SELECT count(*) AS c, sum(n) AS s FROM orders"
    answer = htapkit(stack.folder, "sql", sql, "--json", "--user", "postgres")
    assert json.loads(answer.stdout) == {
        "route": "hot",
        "rows": [{"c": "500", "s": "125250.00"}],
    }, answer.stderr
    explained = htapkit(stack.folder, "explain", sql, "--user", "postgres")
    assert "hot" in explained.stdout
    wrong = htapkit(stack.folder, "sql", "SELECT nothing FROM orders", "--user", "postgres")
    assert wrong.returncode == 1
    assert "42703" in wrong.stderr


def test_pause_keeps_changes_and_resume_applies_them(stack: Stack, database: Database) -> None:
    """While it is paused the source answers; afterwards the copy has everything."""
    paused = htapkit(stack.folder, "pause", "orders", "--json")
    assert json.loads(paused.stdout) == {"table": "shop.public.orders", "done": "pause"}
    assert _status(stack)["state"] == "paused"
    database.execute("UPDATE orders SET v = 'changed' WHERE id <= 10")
    with stack.connect() as port:
        changed = "SELECT count(*) FROM orders WHERE v = 'changed'"
        assert port.execute(changed).fetchone() == (10,)
        assert port.execute("SHOW htapkit.last_route").fetchone() == ("source",)
        assert htapkit(stack.folder, "resume", "orders").returncode == 0
        port.execute("SET htapkit.route = 'hot'")
        port.execute("SET htapkit.freshness = 'strong'")
        assert port.execute(changed).fetchone() == (10,)
    assert _status(stack)["state"] == "following"
    again = htapkit(stack.folder, "resume", "orders")
    assert again.returncode == 0, again.stderr


def test_resync_copies_again(stack: Stack) -> None:
    """The table follows again in the end."""
    assert htapkit(stack.folder, "resync", "shop.public.orders").returncode == 0
    wait_until(lambda: _status(stack)["state"] == "following", 60, stack.log_end)
    assert _status(stack)["rows"] == 500


def test_unknown_table_is_said(stack: Stack) -> None:
    """Which, and where to look."""
    answer = htapkit(stack.folder, "resync", "nothing")
    assert answer.returncode == 1
    assert "shop.public.nothing" in answer.stderr
    assert "htapkit status" in answer.stderr


def test_verify_says_equal_and_names_what_differs(stack: Stack) -> None:
    """Equal at first.

    After somebody changed the copy's file, the key of the changed row is named.
    """
    good = htapkit(stack.folder, "verify")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "equal" in good.stdout
    stack.stop()
    with duckdb.connect(str(stack.folder / "data" / "hot.duckdb")) as file:
        file.execute("""UPDATE "shop.public".orders SET v = 'tampered' WHERE id = 77""")
        file.execute("""DELETE FROM "shop.public".orders WHERE id = 78""")
    stack.start()
    stack.wait_ready()
    bad = htapkit(stack.folder, "verify", "--json")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    found = json.loads(bad.stdout)["tables"][0]
    assert not found["equal"]
    assert sorted(found["examples"]) == ["77", "78"]
    assert (found["rows_source"], found["rows_copy"]) == (500, 499)


def test_detach_leaves_nothing_at_the_source(stack: Stack, database: Database) -> None:
    """No slot and no publication."""
    detached = htapkit(stack.folder, "detach", "shop", "--yes", "--json")
    assert json.loads(detached.stdout) == {"source": "shop", "done": "detach"}
    slots = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
    assert database.execute(slots) == []
    assert database.execute("SELECT pubname FROM pg_publication") == []


def test_health_and_metrics(stack: Stack) -> None:
    """Live, ready, and Prometheus' text."""
    base = f"http://127.0.0.1:{stack.http_port}"
    assert httpx.get(f"{base}/livez").status_code == 200
    assert httpx.get(f"{base}/readyz").status_code == 200
    assert 'htapkit_source_up{source="shop"} 1.0' in httpx.get(f"{base}/metrics").text
    assert "\nprocess_resident_memory_bytes " in httpx.get(f"{base}/metrics").text
    following = 'htapkit_tables{source="shop",state="following"} 1.0'
    wait_until(lambda: following in httpx.get(f"{base}/metrics").text, 60)
    part = re.compile(r'^htapkit_store_bytes\{part="(\w+)"\}', re.MULTILINE)
    sizes = {"file", "wal", "staged", "memory", "temp"}  # and nothing that is no size
    wait_until(lambda: set(part.findall(httpx.get(f"{base}/metrics").text)) == sizes, 60)


def test_a_signal_that_comes_while_it_is_paused_ends_it(stack: Stack) -> None:
    """Any thread may take it then; which one is chance, so it is tried twice."""
    for _ in range(2):
        if not stack.running:
            stack.start()
        os.kill(stack.pid, signal.SIGSTOP)
        wait_until(lambda: psutil.Process(stack.pid).status() == psutil.STATUS_STOPPED, 60)
        os.kill(stack.pid, signal.SIGTERM)
        os.kill(stack.pid, signal.SIGCONT)
        assert stack.wait_ended(60) == 0


def test_a_second_server_on_the_same_data_says_so(stack: Stack, tmp_path: Path) -> None:
    """One owner: the other one ends at once, names the file and the process."""
    second = htapkit(stack.folder, "serve")
    assert second.returncode == 2
    assert "hot.duckdb" in second.stderr
    assert str(stack.pid) in second.stderr
    assert "Traceback" not in second.stderr


def test_init_and_check(database: Database, tmp_path: Path) -> None:
    """A configuration from a DSN, then the preflight; nothing is changed at the source."""
    dsn = f"postgresql://postgres@{database.server.host}:{database.server.port}/{database.name}"
    assert htapkit(tmp_path, "init", dsn, "--name", "shop").returncode == 0
    assert htapkit(tmp_path, "init", dsn).returncode == 2, "an existing file is never overwritten"
    database.execute("CREATE TABLE keyless (a int)")
    checked = htapkit(tmp_path, "check", "--json")
    findings = json.loads(checked.stdout)["shop"]
    assert any("keyless" in f["subject"] + f["message"] for f in findings)
    assert any("max_slot_wal_keep_size" in f["subject"] + f["message"] for f in findings)
    assert database.execute("SELECT 1 FROM pg_publication") == []


def test_a_table_of_the_configuration_that_is_not_there(database: Database, tmp_path: Path) -> None:
    """Mistyped, it is told; one that is there is not, whether it can be mirrored or not."""
    dsn = f"postgresql://postgres@{database.server.host}:{database.server.port}/{database.name}"
    database.execute("CREATE TABLE keyed (a int PRIMARY KEY, at date NOT NULL)")
    database.execute("CREATE TABLE keyless (a int)")
    configuration = {
        "sources": {"shop": {"connector": "postgres", "dsn": dsn, "tables": ["public.k*"]}},
        "tables": {f"shop.public.{name}": {} for name in ("keyed", "keyless", "keyd")},
    }
    (tmp_path / "htapkit.yaml").write_text(json.dumps(configuration))
    found = json.loads(htapkit(tmp_path, "check", "--json").stdout)["shop"]
    told = [f for f in found if f["subject"].startswith("tables.")]
    assert [(f["severity"], f["subject"]) for f in told] == [("warning", "tables.shop.public.keyd")]


def test_init_of_what_is_no_database(tmp_path: Path) -> None:
    """Nothing is written, so that a second try works."""
    for dsn, words in (("garbage", "expected postgresql://"), ("postgresql://a@b/My-Db", "My-Db")):
        made = htapkit(tmp_path, "init", dsn)
        assert (made.returncode, "Traceback" in made.stderr) == (2, False)
        assert words in made.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("server", ["pgwire", "http", "flight"])
def test_a_port_that_is_taken(tmp_path: Path, server: str) -> None:
    """One line that names the key, and the exit code of a wrong configuration."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listens = dict.fromkeys(("pgwire", "http", "flight"), "127.0.0.1:0")
        listens[server] = f"127.0.0.1:{taken.getsockname()[1]}"
        configuration = {
            "sources": {"shop": {"connector": "postgres", "dsn": "postgresql://a@127.0.0.1:1/b"}},
            "servers": {
                name: {"listen": listen, **({} if name == "http" else {"auth": "trust"})}
                for name, listen in listens.items()
            },
        }
        (tmp_path / "htapkit.yaml").write_text(json.dumps(configuration))
        made = htapkit(tmp_path, "serve")
    assert (made.returncode, "Traceback" in made.stderr) == (2, False), made.stderr
    assert f"servers.{server}.listen" in made.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: {}", ["sources"]),
        (f"sources: {{shop: {{{SOURCE}}}}}\nlimts: {{}}", ["limts"]),
        ("sources: {shop: {connector: oracle, dsn: x}}", ["oracle", "postgres"]),
        (f"sources: {{shop: {{{SOURCE}, colour: red}}}}", ["colour"]),
        ("sources: [", ["YAML"]),
        ("# \udcff", ["htapkit.yaml", "UTF-8"]),
        (f"sources: {{shop: {{{SOURCE}}}}}\nlimits: 5", ["limits: expected keys", "memory"]),
        ("sources: {shop: {connector: postgres, dsn: '${NOT_SET}'}}", ["NOT_SET"]),
    ],
)
def test_wrong_configuration_is_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    """Exit 2, the key named, no traceback, nothing started."""
    (tmp_path / "htapkit.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    answer = htapkit(tmp_path, "serve")
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr
    for word in words:
        assert word in answer.stderr
    assert not (tmp_path / "htapkit-data").exists()


def test_wrong_dsn_is_one_clear_line(tmp_path: Path) -> None:
    """Exit 3: the source does not answer. The password is not shown."""
    (tmp_path / "htapkit.yaml").write_text(
        "sources: {shop: {connector: postgres, tables: ['public.*'],"
        " dsn: 'postgresql://me:geheim@127.0.0.1:1/shop'}}"
    )
    answer = htapkit(tmp_path, "check")
    assert answer.returncode in {1, 3}, answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr
    assert "127.0.0.1" in answer.stderr + answer.stdout
    assert "geheim" not in answer.stderr + answer.stdout
