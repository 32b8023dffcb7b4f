"""podman-compose.yml: pinned, limited, checked; and its services, started as processes.

No container engine is needed: the same settings and the same configuration file, with only
addresses and paths exchanged, must make a PostgreSQL and an htapkit that answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from htapkit.config import load_config
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack

ROOT = Path(__file__).parents[2]
SECRETS = {"SHOP_PASSWORD": "a-password", "HTAPKIT_TOKEN": "a-token"}
EXAMPLE = ROOT / "docs" / "examples" / "htapkit.yaml"


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """The parsed file."""
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "podman-compose.yml").read_text())
    return found


@pytest.mark.parametrize("name", ["postgres", "htapkit"])
def test_service_is_pinned_limited_and_checked(compose: Mapping[str, Any], name: str) -> None:
    """An exact image, a health check, limits, and data in a volume that is declared."""
    service = compose["services"][name]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["mem_limit"]
    assert service["cpus"]
    named = [v.split(":")[0] for v in service["volumes"] if not v.startswith(".")]
    assert named
    assert set(named) <= set(compose["volumes"])
    secrets = [v for k, v in service["environment"].items() if k.endswith(("PASSWORD", "TOKEN"))]
    assert secrets
    assert all(v.startswith("${") for v in secrets)


def test_configuration_is_valid_and_what_is_published(compose: Mapping[str, Any]) -> None:
    """The mounted file passes our own check, and its ports are those that compose publishes."""
    config = load_config(EXAMPLE, SECRETS)
    ports = {config.servers.pgwire.listen, config.servers.http.listen}
    published = {p.rpartition(":")[2] for p in compose["services"]["htapkit"]["ports"]}
    assert {port.rpartition(":")[2] for port in ports} == published
    mounted = compose["services"]["htapkit"]["volumes"][0].split(":")[0]
    assert (ROOT / mounted).resolve() == EXAMPLE
    memory = compose["services"]["htapkit"]["mem_limit"]
    assert config.limits.memory < int(memory.removesuffix("g")) * 2**30


def _settings(compose: Mapping[str, Any]) -> dict[str, str]:
    words = compose["services"]["postgres"]["command"][1:]
    assert words[::2] == ["-c"] * (len(words) // 2)
    return {k: f"'{v}'" for k, v in (word.split("=", 1) for word in words[1::2])}


@pytest.fixture(scope="module")
def source(compose: Mapping[str, Any]) -> Iterator[Database]:
    """The service `postgres`, as a process."""
    environment = compose["services"]["postgres"]["environment"]
    with PostgresServer(18, settings=_settings(compose)) as server:
        database = Database(server, environment["POSTGRES_DB"])
        user, password = environment["POSTGRES_USER"], SECRETS["SHOP_PASSWORD"]
        database.execute(f"create role {user} superuser login password '{password}'")
        database.execute(
            "create table orders (id bigint primary key, total numeric(12, 2) not null);"
            "insert into orders select n, n / 4.0 from generate_series(1, 1000) as n"
        )
        yield database


@pytest.mark.integration
def test_services_work_together(
    compose: Mapping[str, Any], source: Database, tmp_path: Path
) -> None:
    """Both health checks pass, and the published port gives the copy's answer to its user."""
    check = compose["services"]["postgres"]["healthcheck"]["test"][1:]
    program = [str(source.server.tool(check[0])), *check[1:]]
    address = ["-h", source.server.host, "-p", str(source.server.port)]
    subprocess.run([*program, *address], check=True, capture_output=True)

    document = yaml.safe_load(EXAMPLE.read_text())
    document["servers"]["pgwire"]["listen"] = "127.0.0.1:0"
    document["servers"]["http"]["listen"] = "127.0.0.1:0"
    dsn = document["sources"]["shop"]["dsn"]
    here = f"{source.server.host}:{source.server.port}"
    document["sources"]["shop"]["dsn"] = dsn.replace("postgres:5432", here)
    document["data_dir"] = str(tmp_path / "data")
    stack = Stack(tmp_path, document["sources"], configuration=document, environment=SECRETS)
    with stack:
        stack.wait_ready()
        check = compose["services"]["htapkit"]["healthcheck"]["test"][1:]
        code = check[-1].replace(":6480", f":{stack.http_port}")
        subprocess.run([sys.executable, *check[1:-1], code], check=True)
        login = f"{stack.dsn(user='shop')} password={SECRETS['SHOP_PASSWORD']}"
        with psycopg.connect(login, autocommit=True) as connection:
            assert connection.execute("select count(*), sum(total) from orders").fetchall() == (
                source.execute("select count(*), sum(total) from orders")
            )
            assert connection.execute("show htapkit.last_route").fetchone() == ("hot",)
        wrong = login.replace(SECRETS["SHOP_PASSWORD"], "wrong")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(wrong)


@pytest.mark.integration
def test_secrets_stay_secret(source: Database, tmp_path: Path) -> None:
    """Neither the log nor the status has the password."""
    address = f"{source.server.host}:{source.server.port}"
    sources = {"shop": {"dsn": f"postgresql://shop:${{SHOP_PASSWORD}}@{address}/shop"}}
    with Stack(tmp_path, sources, environment=SECRETS) as stack:
        stack.wait_ready()
        with stack.client() as client:
            shown = json.dumps(client.status())
        assert SECRETS["SHOP_PASSWORD"] not in shown + stack.log_path.read_text()
