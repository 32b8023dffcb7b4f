"""The services of podman-compose.yml as plain processes, for `make stack` and the tests.

Settings, users, secrets and htapkit's file are read from what compose has; only addresses and
paths are exchanged. `python -m tests.e2e.twins` runs them until Ctrl-C.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from htapkit.testing import bank
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.s3 import S3Server
from htapkit.testing.stack import Stack

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "htapkit.yaml"
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

    def s3(self) -> None:
        """An S3 server with compose's buckets. Raises NoS3Server."""
        service = self._services["s3"]
        self.lake = S3Server(self._folder / "s3", self._passwords["LAKE_SECRET"])
        for volume in service["volumes"]:
            _, _, inside = volume.partition(":")
            if inside.startswith("/buckets/"):
                self.lake.bucket(inside.removeprefix("/buckets/"))
        self._running.enter_context(self.lake)

    def htapkit(self) -> None:
        """A server with the file that compose mounts."""
        document = yaml.safe_load(EXAMPLE.read_text())
        for port in document["servers"].values():
            port["listen"] = "127.0.0.1:0"
        source = document["sources"]["shop"]
        server = self.database.server
        source["dsn"] = source["dsn"].replace("postgres:5432", f"{server.host}:{server.port}")
        catalog = document["lake"]["catalog"]
        catalog["s3.endpoint"] = self.lake.endpoint
        document["data_dir"] = str(self._folder / "data")
        self.stack = Stack(
            self._folder, document["sources"], configuration=document, environment=self._passwords
        )
        self._running.enter_context(self.stack)

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
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
        self._running.callback(process.wait)
        self._running.callback(process.kill)

    def login(self, port: int) -> str:
        """The shop's user at a port."""
        password = self._passwords["SHOP_PASSWORD"]
        return f"postgresql://shop:{password}@127.0.0.1:{port}/{self.database.name}"


TWINS: Mapping[str, Callable[[Twins], None]] = {
    "postgres": Twins.postgres,
    "s3": Twins.s3,
    "htapkit": Twins.htapkit,
    "load": Twins.load,
}


@contextmanager
def twins(folder: Path, passwords: Mapping[str, str]) -> Iterator[Twins]:
    """All of them, in the order in which they need each other."""
    with ExitStack() as running:
        found = Twins(folder, passwords, running)
        for start in TWINS.values():
            start(found)
        yield found


def main() -> None:
    """Run until Ctrl-C; leave nothing behind."""
    passwords = {name: secrets.token_urlsafe(12) for name in NAMES}
    with tempfile.TemporaryDirectory() as folder, twins(Path(folder), passwords) as found:
        print(f"source:  psql {found.login(found.database.server.port)}")
        print(f"htapkit: psql {found.login(found.stack.port)}")
        print(
            f"API:     http://127.0.0.1:{found.stack.http_port}, token {passwords['HTAPKIT_TOKEN']}"
        )
        print(f"S3:      {found.lake.endpoint}, bucket lake; Ctrl-C ends all", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping")


if __name__ == "__main__":
    main()
