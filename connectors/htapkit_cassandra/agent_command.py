"""The command `htapkit cassandra-agent`: the agent started, stopped and asked how it is."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from htapkit.errors import ConfigError, SourceRefused
from htapkit_cassandra import jars
from htapkit_cassandra.agent import STOP_SECONDS_MAX, Agent
from htapkit_cassandra.agent_settings import AgentSettings, load
from htapkit_cassandra.remote import Address, Remote, seen_of

# Its readers end first, each with its snapshot.
END_SECONDS_MAX = STOP_SECONDS_MAX + 10.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where they are reached

_CONFIG = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("cassandra-agent.yaml"),
    show_default=True,
    help="The agent's own file.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def cassandra_agent() -> None:
    """Read a Cassandra node's log and files for an htapkit on another machine."""


@cassandra_agent.command()
@_CONFIG
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info"
)
def start(path: Path, log_level: str) -> None:
    """Serve until SIGINT or SIGTERM; logs to standard error."""
    # In this process, but without what the other commands import: a seventh of the memory.
    command = [sys.executable, "-P", "-m", __name__, str(path), log_level]
    os.execv(command[0], command)  # noqa: S606 - it is ourselves


def serve(path: Path, log_level: str) -> None:
    """Serve until a signal. Raises ConfigError."""
    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    log = logging.getLogger("htapkit_cassandra.agent_command")
    settings = load(path)
    with _alone(settings.folder):
        try:
            jars.classpath(settings.cassandra_home)  # fetched now rather than for the first reader
        except SourceRefused as error:
            log.warning("no reader can run: %s", error)
        agent = Agent(settings)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: agent.stop())
        log.info("listens on %s, %s", settings.listen, "TLS" if settings.tls_key else "plain text")
        agent.run()
    log.info("stopped")


@cassandra_agent.command()
@_CONFIG
def stop(path: Path) -> None:
    """End the agent on this machine, and wait until it has ended."""
    settings = load(path)
    deadline = time.monotonic() + END_SECONDS_MAX
    told = None
    while (pid := _owner(settings.folder)) is not None:
        if told != pid:
            _end(pid)
            told = pid
        if time.monotonic() > deadline:
            click.echo(f"cassandra-agent: process {pid} does not end", err=True)
            sys.exit(1)
        time.sleep(0.05)
    if told is None:
        click.echo(f"cassandra-agent: none runs with {settings.folder}", err=True)
        sys.exit(3)
    click.echo("cassandra-agent: stopped")


@cassandra_agent.command()
@_CONFIG
@_JSON
def status(path: Path, as_json: bool) -> None:  # noqa: FBT001 - click passes it
    """Ask the running agent how it is; exit 1 where something keeps it from its work."""
    settings = load(path)
    found = Remote(_own_address(settings), "").ask({"ask": "status"})
    problems = _problems(found)
    if as_json:
        click.echo(json.dumps({**found, "listen": settings.listen, "problems": problems}))
    else:
        click.echo(_line(settings, found, problems))
    sys.exit(1 if problems else 0)


def _said(error: ConfigError) -> int:
    click.echo(f"htapkit: {error}", err=True)
    return 2


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise ConfigError(f"process {pid} is another user's; stop it as that user") from error


def _own_address(settings: AgentSettings) -> Address:
    """Of the agent with these settings, as seen from its own machine."""
    tls = None
    if settings.tls_certificate:
        try:
            # Its very certificate, whatever name it is for and whoever signed it.
            tls = ssl.create_default_context(cafile=settings.tls_certificate)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot read {settings.tls_certificate}: {error}") from error
        tls.check_hostname = False
        tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    host = _WILDCARDS.get(settings.host, settings.host)
    return Address(host, settings.port, settings.token, tls)


def _problems(found: Mapping[str, Any]) -> list[str]:
    seen = seen_of({**found["seen"], "agent": found["agent"]})
    problems = [seen.java] if seen.java else []
    if not seen.readable:
        problems.append(f"{seen.cdc_raw} cannot be read")
    if seen.unread:
        problems.append(f"{', '.join(seen.unread)} cannot be read")
    if seen.jmx_problem:
        problems.append(f"nothing answers over JMX at {seen.jmx} ({seen.jmx_problem})")
    return problems


def _line(settings: AgentSettings, found: Mapping[str, Any], problems: list[str]) -> str:
    seen = found["seen"]
    readers = ", ".join(f"{one['reader']} for {one['client']}" for one in found["readers"])
    state = "; ".join(problems) if problems else "ok"
    return (
        f"cassandra-agent {found['version']} at {settings.listen}: {state}; up for "
        f"{found['seconds']} s; readers: {readers or 'none'}; "
        f"{seen['used_bytes']} bytes in {seen['cdc_raw']}"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Own the folder: its files are removed at a start. Raises ConfigError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a+", encoding="ascii") as lock:
        if not _locks(lock):
            raise ConfigError(f"another agent runs with {folder}; each has a folder of its own")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _owner(folder: Path) -> int | None:
    """The process of the agent that runs with this folder; None: none does."""
    try:
        with (folder / "lock").open("r+", encoding="ascii") as lock:
            if _locks(lock):
                return None
            said = lock.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot see what runs with {folder}: {error.strerror}") from error
    return int(said) if said.isdigit() else None


def _locks(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2])
    except ConfigError as error:
        sys.exit(_said(error))
