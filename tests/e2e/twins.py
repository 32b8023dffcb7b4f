"""The services of podman-compose.yml as plain processes, for `make stack` and the tests.

Settings, users, secrets and the mounted files are read from what compose has; only addresses and
paths are exchanged. `python -m tests.e2e.twins` runs them until Ctrl-C; with `--engines` also those
of compose's profile of that name.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from htapkit.errors import HtapkitError
from htapkit.testing import bank
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import Database, PostgresServer, free_port
from htapkit.testing.s3 import S3Server
from htapkit.testing.stack import Stack
from tests.airflow.home import DAGS, AirflowHome
from tests.airflow.standalone import Standalone
from tests.spark.connect import ConnectServer, spark_home
from tests.spark.jars import SERVER_JARS, missing

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
EXAMPLE = EXAMPLES / "htapkit.yaml"
NAMES = ("SHOP_PASSWORD", "HTAPKIT_TOKEN", "LAKE_SECRET")


def compose_file() -> Mapping[str, Any]:
    """The parsed podman-compose.yml."""
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "podman-compose.yml").read_text())
    return found


class Twins:
    """The running processes. Each method starts the twin of the service of its name, in order."""

    def __init__(self, folder: Path, passwords: Mapping[str, str], running: ExitStack) -> None:
        """`passwords` has what compose takes from the environment."""
        self._folder = folder
        self._passwords = passwords
        self._running = running
        self._services: Mapping[str, Any] = compose_file()["services"]
        self.database: Database
        self.lake: S3Server
        self.stack: Stack
        self.connect: ConnectServer
        self.scheduler: Standalone
        self.spark_port = 0

    def postgres(self) -> None:
        """A server with compose's settings, its database and its user."""
        service = self._services["postgres"]
        words = service["command"][1:]
        assert words[::2] == ["-c"] * (len(words) // 2)
        settings = {k: f"'{v}'" for k, v in (word.split("=", 1) for word in words[1::2])}
        server = self._running.enter_context(PostgresServer(18, settings=settings))
        environment = service["environment"]
        self.database = Database(server, environment["POSTGRES_DB"])
        user, password = environment["POSTGRES_USER"], self._passwords["SHOP_PASSWORD"]
        self.database.execute(f"create role {user} superuser login password '{password}'")
        # What the image runs in this way when its volume is new.
        script = ["-v", "ON_ERROR_STOP=1", "-f", str(EXAMPLES / "lake.sql")]
        subprocess.run(
            [str(server.psql), "--no-psqlrc", "--quiet", *script, server.dsn(self.database.name)],
            env={**os.environ, **self._environment("postgres")},
            check=True,
        )

    def s3(self) -> None:
        """An S3 server with compose's buckets, built the first time. Raises NoS3Server."""
        service = self._services["s3"]
        self.lake = S3Server(self._folder / "s3", self._passwords["LAKE_SECRET"])
        for volume in service["volumes"]:
            _, _, inside = volume.partition(":")
            if inside.startswith("/buckets/"):
                self.lake.bucket(inside.removeprefix("/buckets/"))
        self._running.callback(self.lake.kill)
        self.lake.start()

    def htapkit(self) -> None:
        """A server with the file that compose mounts."""
        document = yaml.safe_load(EXAMPLE.read_text())
        for port in document["servers"].values():
            port["listen"] = "127.0.0.1:0"
        source = document["sources"]["shop"]
        source["dsn"] = self._address(source["dsn"])
        catalog = document["lake"]["catalog"]
        catalog["uri"] = self._address(catalog["uri"])
        catalog["s3.endpoint"] = self._address(catalog["s3.endpoint"])
        document["data_dir"] = str(self._folder / "data")
        self.stack = Stack(
            self._folder, document["sources"], configuration=document, environment=self._passwords
        )
        self._running.callback(self.stack.stop)  # also when it is interrupted while it starts
        self.stack.start()

    def load(self) -> None:
        """The same program, with an address of its own."""
        service = self._services["load"]
        entry = service["entrypoint"][1:]
        assert entry == ["-m", bank.__name__]
        # Where compose has it, too: a command line is for everybody to read.
        assert "PGPASSWORD" in service["environment"]
        environment = {**os.environ, "PGPASSWORD": self._passwords["SHOP_PASSWORD"]}
        address = f"postgresql://shop@127.0.0.1:{self.database.server.port}/{self.database.name}"
        command = [sys.executable, *entry, address, service["command"][1]]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C is for the owner, who then stops it
        )
        self._running.callback(process.wait)
        self._running.callback(process.kill)

    def spark(self) -> None:
        """The same command, settings and check, with the Spark that pip installed."""
        service = self._services["spark"]
        folder, self.spark_port = self._folder / "spark", free_port()
        own = {"/opt/spark": str(spark_home()), ":15002": f":{self.spark_port}", "$$": "$"}
        command = [_exchanged(word, own) for word in service["command"]]
        check = [word.replace("/15002", f"/{self.spark_port}") for word in _check(service)]
        settings = self._address((EXAMPLES / "spark-defaults.conf").read_text())
        listening = {"0.0.0.0": "127.0.0.1", "15002": str(self.spark_port)}  # noqa: S104
        environment = {**self._environment("spark"), "PGPASSFILE": str(folder / "pgpass")}
        server = ConnectServer(folder, command, _exchanged(settings, listening), environment, check)
        self.connect = self._running.enter_context(server)

    def airflow(self) -> None:
        """The same environment, with an Airflow that pip installed."""
        service = self._services["airflow"]
        assert service["command"] == ["standalone"]
        home = AirflowHome(self._folder / "airflow", self.stack.http_port)
        home.folder.mkdir()
        own = {"/opt/airflow/dags": str(DAGS), "/opt/airflow": str(home.folder)}
        environment = self._environment("airflow")
        home.environment.update({name: _exchanged(v, own) for name, v in environment.items()})
        self.scheduler = self._running.enter_context(Standalone(home))

    def _environment(self, name: str) -> Mapping[str, str]:
        """What compose gives a service, with our secrets and addresses."""
        given: Mapping[str, str] = self._services[name]["environment"]
        return {
            key: self._address(
                re.sub(r"\$\{(\w+):[^}]*\}", lambda found: self._passwords[found[1]], text)
            )
            for key, text in given.items()
        }

    def _address(self, text: str) -> str:
        """With the addresses of the processes in place of those of the services so far."""
        found = {"postgres:5432": f"127.0.0.1:{self.database.server.port}"}
        if hasattr(self, "lake"):
            found["http://s3:7070"] = self.lake.endpoint
        if hasattr(self, "stack"):
            found["@htapkit:6480"] = f"@127.0.0.1:{self.stack.http_port}"
        return _exchanged(text, found)

    @property
    def spark_address(self) -> str:
        """For Spark Connect's clients."""
        return f"sc://127.0.0.1:{self.spark_port}"

    def login(self, port: int) -> str:
        """The shop's user at a port."""
        password = self._passwords["SHOP_PASSWORD"]
        return f"postgresql://shop:{password}@127.0.0.1:{port}/{self.database.name}"


def _exchanged(text: str, new: Mapping[str, str]) -> str:
    for old, other in new.items():
        text = text.replace(old, other)
    return text


def _check(service: Mapping[str, Any]) -> Sequence[str]:
    """The command of its health check."""
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    return command


TWINS: Mapping[str, Callable[[Twins], None]] = {
    "postgres": Twins.postgres,
    "s3": Twins.s3,
    "htapkit": Twins.htapkit,
    "load": Twins.load,
}
ENGINES: Mapping[str, Callable[[Twins], None]] = {"spark": Twins.spark, "airflow": Twins.airflow}
"""Those of the profile `engines`."""


def engines_missing() -> str:
    """Why they cannot run here; "" where they can. Fetches Spark's jars."""
    if importlib.util.find_spec("airflow") is None:
        return "Apache Airflow (extra `airflow`) is not installed"
    return missing(SERVER_JARS)


@contextmanager
def twins(
    folder: Path,
    passwords: Mapping[str, str],
    *,
    engines: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Twins]:
    """All of them, in the order in which they need each other; `tell` hears which one starts."""
    with ExitStack() as running:
        found = Twins(folder, passwords, running)
        for name, start in {**TWINS, **(ENGINES if engines else {})}.items():
            tell(name)
            start(found)
        yield found


def _told(found: Twins, token: str) -> Iterator[str]:
    yield f"source:  psql {found.login(found.database.server.port)}"
    yield f"htapkit: psql {found.login(found.stack.port)}"
    yield f"API:     http://127.0.0.1:{found.stack.http_port}, token {token}"
    yield f"S3:      {found.lake.endpoint}, bucket lake"
    if hasattr(found, "scheduler"):
        yield f"Airflow: {found.scheduler.address}"
        yield f"Spark:   {found.spark_address}"


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """What works in the folder ends with this process, however that ends."""
    guard = Guard(folder)
    try:
        yield
    finally:
        guard.release()


def main() -> int:
    """Run until Ctrl-C; leave nothing behind."""
    options = argparse.ArgumentParser(prog="make stack ARGS=…", description=main.__doc__)
    options.add_argument("--engines", action="store_true", help="Airflow and Spark as well")
    engines = options.parse_args().engines
    reason = engines_missing() if engines else ""
    if reason:
        print(f"--engines: {reason}; `make setup-engines` installs Airflow and pyspark, and")
        print("Java 17 and Maven are yours: apt-get install openjdk-17-jre-headless maven")
        return 1
    passwords = {name: secrets.token_urlsafe(12) for name in NAMES}
    begun = time.monotonic()

    def tell(name: str) -> None:
        print(f"{time.monotonic() - begun:4.0f} s  starting {name}", flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="htapkit-stack-") as folder,
            guarded(Path(folder)),
            twins(Path(folder), passwords, engines=engines, tell=tell) as found,
        ):
            print(
                *_told(found, passwords["HTAPKIT_TOKEN"]), "Ctrl-C ends all", sep="\n", flush=True
            )
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            print("stopping", flush=True)
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind")
    except HtapkitError as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
