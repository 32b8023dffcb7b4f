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
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from htapkit.config import load_config
from htapkit.testing import bank
from htapkit.testing.s3 import NoS3Server, program
from htapkit.testing.stack import wait_until
from tests.e2e.twins import (
    ENGINES,
    EXAMPLE,
    EXAMPLES,
    NAMES,
    ROOT,
    TWINS,
    Twins,
    compose_file,
    twins,
)
from tests.fix_mirror import JOB_SECONDS
from tests.spark.jars import SERVER_JARS

SECRETS = {name: f"a-secret-{name.lower()}" for name in NAMES}
WITHOUT_DATA = {"load", "spark"}


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """The parsed file."""
    return compose_file()


def test_every_service_has_a_twin(compose: Mapping[str, Any]) -> None:
    """What compose starts is what `make stack` starts, and what the tests below look at."""
    services = compose["services"]
    assert {name for name in services if "profiles" not in services[name]} == set(TWINS)
    assert {n for n in services if services[n].get("profiles") == ["engines"]} == set(ENGINES)
    assert set(services) == {*TWINS, *ENGINES}


@pytest.mark.parametrize("name", sorted({*TWINS, *ENGINES}))
def test_service_is_pinned_limited_and_checked(compose: Mapping[str, Any], name: str) -> None:
    """An exact image, a health check, limits, data in volumes that are declared, no secret."""
    service = compose["services"][name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["mem_limit"]
    assert service["cpus"]
    named = [v.split(":")[0] for v in service.get("volumes", []) if not v.startswith(".")]
    assert bool(named) != (name in WITHOUT_DATA)
    assert set(named) <= set(compose["volumes"])
    environment = service.get("environment", {})
    secret = ("PASSWORD", "TOKEN", "SECRET", "SECRET_KEY", "SECRET_ACCESS_KEY")
    hidden = [v for k, v in environment.items() if k.endswith(secret) or "_CONN_" in k]
    assert hidden
    assert all(re.search(r"\$\{\w+:\?set \w+\}", v) for v in hidden)
    assert "${" not in "".join(service.get("command", []))
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    if "build" in service:
        images = re.findall(r"^FROM (\S+)", _containerfile(service), flags=re.MULTILINE)
        assert images
        assert all(re.fullmatch(r"[\w./-]+:[a-z-]*\d+\.\d+\.\d+-[\w.-]+", i) for i in images)


def _containerfile(service: Mapping[str, Any]) -> str:
    path: str = service["build"]["dockerfile"]
    return (ROOT / path).read_text()


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


def test_engines_are_the_versions_that_the_tests_run(compose: Mapping[str, Any]) -> None:
    """The images have the Airflow and the jars of the process twins, and a Spark of that line."""
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    airflow = _containerfile(compose["services"]["airflow"])
    assert f"/airflow:slim-{pinned['apache-airflow']}-python" in airflow
    spark = _containerfile(compose["services"]["spark"])
    fetched = re.findall(r"^ +(\S+\.jar)\b(?=[ ;])(?! \|)", spark, flags=re.MULTILINE)
    jars = [f"{j.group.replace('.', '/')}/{j.name}/{j.version}" for j in SERVER_JARS]
    assert [path.rpartition("/")[0] for path in fetched if "/" in path] == jars
    line = pinned["pyspark"].rpartition(".")[0]
    assert f"/spark:{line}." in spark
    assert f"-{line}_" in SERVER_JARS[0].name


def test_spark_and_htapkit_have_one_lake(compose: Mapping[str, Any]) -> None:
    """Both mounted files name the same catalog, warehouse and store, and compose the same users."""
    lines = (EXAMPLES / "spark-defaults.conf").read_text().splitlines()
    settings = dict(line.split() for line in lines if line and not line.startswith("#"))
    lake = load_config(EXAMPLE, SECRETS).lake
    catalog = {k.partition("catalog.htapkit.")[2]: v for k, v in settings.items()}
    assert catalog["warehouse"] == lake.warehouse
    assert catalog["s3.endpoint"] == lake.catalog["s3.endpoint"]
    found = urlsplit(lake.catalog["uri"])
    assert catalog["uri"] == f"jdbc:postgresql://{found.hostname}:{found.port}{found.path}"
    assert catalog["jdbc.user"] == found.username
    spark = compose["services"]["spark"]
    assert spark["environment"]["AWS_ACCESS_KEY_ID"] == lake.catalog["s3.access-key-id"]
    assert spark["environment"]["AWS_REGION"] == lake.catalog["s3.region"]
    assert spark["environment"]["AWS_SECRET_ACCESS_KEY"].startswith("${LAKE_SECRET:")
    assert found.password == SECRETS["LAKE_SECRET"]
    port = settings["spark.connect.grpc.binding.port"]
    assert spark["ports"] == [f"127.0.0.1:{port}:{port}"]
    role = (EXAMPLES / "lake.sql").read_text()
    assert f"CREATE DATABASE {found.path[1:]} OWNER {found.username};" in role


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
        # Of no account of the load's, which deletes the oldest rows of its own.
        running.database.execute(
            "INSERT INTO ledger (at, account, amount) VALUES ('2026-01-01', 0, 1)"
        )
        old = "SELECT count(*) FROM ledger WHERE at < '2026-02-01'"
        wait_until(lambda: port.execute(old).fetchone() == (1,), 60, stack.log_end)
        with stack.client(SECRETS["HTAPKIT_TOKEN"]) as client:
            job = client.tier(["shop.public.ledger"], "1 hour")
            client.wait(job["id"], timeout_seconds=JOB_SECONDS)
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
