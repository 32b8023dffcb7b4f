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
from typing import Any

import psutil
import psycopg
import pytest

from htapkit.config import load_config
from htapkit.testing import bank
from htapkit.testing.s3 import NoS3Server, program
from htapkit.testing.stack import wait_until
from tests.e2e.twins import EXAMPLE, NAMES, ROOT, TWINS, Twins, compose_file, twins

SECRETS = {name: f"a-secret-{name.lower()}" for name in NAMES}


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """The parsed file."""
    return compose_file()


def test_every_service_has_a_twin(compose: Mapping[str, Any]) -> None:
    """What compose starts is what `make stack` starts, and what the tests below look at."""
    assert set(compose["services"]) == set(TWINS)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_service_is_pinned_limited_and_checked(compose: Mapping[str, Any], name: str) -> None:
    """An exact image, a health check, limits, data in volumes that are declared, no secret."""
    service = compose["services"][name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["mem_limit"]
    assert service["cpus"]
    named = [v.split(":")[0] for v in service.get("volumes", []) if not v.startswith(".")]
    assert named or name == "load"
    assert set(named) <= set(compose["volumes"])
    environment = service.get("environment", {})
    hidden = [v for k, v in environment.items() if k.endswith(("PASSWORD", "TOKEN", "SECRET_KEY"))]
    assert hidden
    assert all(v.startswith("${") for v in hidden)
    assert "${" not in "".join(service.get("command", []))


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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Every service, as a process."""
    try:
        program()
    except NoS3Server as error:
        pytest.skip(str(error))
    with twins(tmp_path_factory.mktemp("twins"), SECRETS) as found:
        yield found


@pytest.mark.integration
def test_services_work_together(compose: Mapping[str, Any], running: Twins) -> None:
    """Both health checks pass, the load is seen at the port by its user, history goes to S3."""
    check = compose["services"]["postgres"]["healthcheck"]["test"][1:]
    server, stack = running.database.server, running.stack
    command = [str(server.tool(check[0])), *check[1:], "-h", server.host, "-p", str(server.port)]
    subprocess.run(command, check=True, capture_output=True)
    check = compose["services"]["htapkit"]["healthcheck"]["test"][1:]
    code = check[-1].replace(":6480", f":{stack.http_port}")
    subprocess.run([sys.executable, *check[1:-1], code], check=True)
    login = running.login(stack.port)
    with psycopg.connect(login, autocommit=True) as port:
        total = "SELECT (SELECT sum(balance) FROM checking) + (SELECT sum(balance) FROM savings)"

        def seen() -> bool:
            try:
                row = port.execute(total).fetchone()
            except psycopg.errors.UndefinedTable:
                return False  # the load makes its tables just now
            route = port.execute("SHOW htapkit.last_route").fetchone()
            return row == (bank.TOTAL,) and route == ("hot",)

        wait_until(seen, 60, stack.log_end)
        running.database.execute(
            "INSERT INTO ledger (at, account, amount) VALUES ('2026-01-01', 1, 1)"
        )
        old = "SELECT count(*) FROM ledger WHERE at < '2026-02-01'"
        wait_until(lambda: port.execute(old).fetchone() == (1,), 60, stack.log_end)
        with stack.client(SECRETS["HTAPKIT_TOKEN"]) as client:
            job = client.tier(["shop.public.ledger"], "1 hour")
            client.wait(job["id"], timeout_seconds=60)
        assert port.execute(old).fetchone() == (1,)
        assert port.execute("SHOW htapkit.last_route").fetchone() == ("union",)
        assert list(running.lake.bucket("lake").rglob("*.parquet"))
    wrong = login.replace(SECRETS["SHOP_PASSWORD"], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(wrong)


@pytest.mark.integration
def test_secrets_stay_secret(running: Twins) -> None:
    """Neither the log nor the status has one, nor any program's command line."""
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert any(bank.__name__ in line for line in lines)
    assert not [name for name, secret in SECRETS.items() if secret in "\n".join(lines)]
    with running.stack.client(SECRETS["HTAPKIT_TOKEN"]) as client:
        shown = json.dumps(client.status()) + running.stack.log_path.read_text()
    assert not [name for name, secret in SECRETS.items() if secret in shown]
