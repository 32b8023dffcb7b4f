"""An agent over its connections: who is let in, what comes through, and how each end ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from htapkit.errors import ConfigError, SourceRefused, SourceUnavailable
from htapkit.testing.guard import child_environment
from htapkit.testing.postgres import free_port
from htapkit_cassandra import agent as agents
from htapkit_cassandra import agent_readers
from htapkit_cassandra import link as wire
from htapkit_cassandra.agent import Agent
from htapkit_cassandra.agent_command import cassandra_agent
from htapkit_cassandra.link import Link
from htapkit_cassandra.machine import LOST, Child, Copied, Machine
from htapkit_cassandra.mutations import LogPosition, Mutation
from htapkit_cassandra.remote import Address, Remote, trusting
from htapkit_cassandra.tail import LogTail
from tests.fault_proxy import FaultProxy
from tests.fix_agent import SECONDS, TOKEN, FakeNode, remote, running, wait_for
from tests.integration.test_auth_stack import write_tls

pytestmark = pytest.mark.integration


def _schema(mode: str) -> str:
    return json.dumps({"mode": mode, "ignored": []})


@contextmanager
def _reader(machine: Machine, mode: str) -> Iterator[Child]:
    child = machine.read_log(_schema(mode), None)
    try:
        yield child
    finally:
        child.end()
        for _ in child.lines():
            pass


def test_who_is_not_let_in(fake_node: FakeNode) -> None:
    """A wrong token, another protocol, what is no agent's word: each is told, and nothing else."""
    with running(fake_node.settings()) as agent:
        for token in ("", TOKEN[:-1], TOKEN + "x", "é" * 20):
            with pytest.raises(SourceRefused, match=r"agent at 127\.0\.0\.1:\d+: wrong token"):
                remote(agent.port, token).look()
        assert remote(agent.port).look().readable

        def answer(*frames: tuple[bytes, bytes]) -> dict[str, object]:
            """The last one; each frame is sent once the one before was answered."""
            opened = socket.create_connection(("127.0.0.1", agent.port), SECONDS)
            with closing(Link(opened, wire.FRAME_BYTES_MAX)) as link:
                got: wire.Frame | None = None
                for kind, payload in frames:
                    link.send(kind, payload)
                    got = link.receive(SECONDS)
            assert got is not None
            return {"kind": got[0], **json.loads(got[1])}

        good = (wire.HELLO, wire.packed({"protocol": wire.PROTOCOL, "token": TOKEN}))
        other = wire.packed({"protocol": 99, "token": TOKEN})
        assert "protocol 1" in str(answer((wire.HELLO, other)))
        large = answer((wire.HELLO, b"x" * (wire.HELLO_BYTES_MAX + 1)))
        assert f"{wire.HELLO_BYTES_MAX} at most" in str(large)
        for frames in (
            [(wire.ASK, wire.packed({"ask": "status"}))],  # without a token
            [(wire.HELLO, b"[]")],
            [good, (wire.HELLO, good[1])],
            [good, (wire.ASK, b"{}")],
            [good, (wire.ASK, wire.packed({"ask": "look", "data_folders": "/"}))],
            [good, (wire.ASK, wire.packed({"ask": "log", "source": "../x"}))],
        ):
            found = answer(*frames)
            assert found["kind"] == wire.REFUSED, frames
            assert not found["again"]
        assert answer(good, (wire.ASK, wire.packed({"ask": "status"})))["kind"] == wire.ANSWER


def test_who_says_nothing_is_let_go(fake_node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has shown its token; too many at once are not waited for."""
    monkeypatch.setattr(agents, "HELLO_SECONDS_MAX", 0.3)
    with running(fake_node.settings()) as agent:
        with socket.create_connection(("127.0.0.1", agent.port), SECONDS) as silent:
            assert silent.recv(100) == b""
        monkeypatch.setattr(agents, "HELLO_SECONDS_MAX", SECONDS)
        address = ("127.0.0.1", agent.port)
        held = [socket.create_connection(address, SECONDS) for _ in range(agents.CONNECTIONS_MAX)]
        with socket.create_connection(address, SECONDS) as further:
            assert further.recv(100) == b""
        for one in held:
            one.close()
        wait_for(lambda: _looks(agent.port))


def _looks(port: int) -> bool:
    try:
        return remote(port).look().readable
    except SourceUnavailable:
        return False


def test_encrypted(fake_node: FakeNode, tmp_path: Path) -> None:
    """Its certificate has to be one of agent_ca; plain text and TLS tell each other apart."""
    authority, stranger = trustme.CA(), trustme.CA()
    for name, one in (("ca.pem", authority), ("other.pem", stranger)):
        one.cert_pem.write_to_path(str(tmp_path / name))
    chain, key = write_tls(tmp_path, authority)

    def at(port: int, ca: str) -> Remote:
        tls = trusting(str(tmp_path / ca)) if ca else None
        return Remote(Address("127.0.0.1", port, TOKEN, tls), "events")

    settings = fake_node.settings(tls_certificate=str(chain), tls_key=str(key))
    with running(settings) as agent:
        assert at(agent.port, "ca.pem").look().readable
        with _reader(at(agent.port, "ca.pem"), "odd") as child:
            assert len(list(child.lines())) == 4
            assert child.wait() == 4
        with pytest.raises(SourceRefused, match="is not trusted"):
            at(agent.port, "other.pem").look()
        with pytest.raises((SourceRefused, SourceUnavailable), match="wants TLS"):
            at(agent.port, "").look()
        # Renewed while it runs: the next connection has the new one.
        write_tls(tmp_path, stranger)
        assert at(agent.port, "other.pem").look().readable
        key.write_text("no key")
        with pytest.raises(SourceUnavailable):
            at(agent.port, "other.pem").look()
    with pytest.raises(ConfigError, match="tls_certificate"):
        Agent(settings)
    with running(fake_node.settings()) as agent, pytest.raises(SourceRefused, match="speak TLS"):
        at(agent.port, "ca.pem").look()
    with pytest.raises(SourceRefused, match="agent_ca"):
        trusting(str(tmp_path / "absent.pem"))


def test_the_same_bytes_as_without_an_agent(fake_node: FakeNode) -> None:
    """Also empty lines, long ones, one without an end; the exit code, and what was said last."""

    def all_of(machine: Machine) -> tuple[list[bytes], int, str]:
        child = machine.read_log(_schema("odd"), LogPosition(7, 30))
        try:
            return list(child.lines()), child.wait(), child.said
        finally:
            child.end()

    with running(fake_node.settings()) as agent:
        through = all_of(remote(agent.port))
        asked = (fake_node.cdc_raw / "asked").read_text()
    directly = all_of(fake_node.here())
    assert through == directly
    assert directly[1:] == (4, "why it ended")
    assert [len(line) for line in directly[0]] == [7, 1, 300_001, 6]
    assert asked == (fake_node.cdc_raw / "asked").read_text() == "--poll 20 --from 7:30"


def test_a_copy_is_asked_of_the_nodes_own_folders(fake_node: FakeNode) -> None:
    """The table comes from htapkit; where its files are, and JMX, from the agent's settings."""
    folders = ["/data/a", "/data/b"]
    settings = fake_node.settings(data_folders=folders, jmx_port=7300)
    with running(settings) as agent:
        child = remote(agent.port).read_table(_schema("odd"), Copied("demo", "t", "htapkit-e-t"))
        assert len(list(child.lines())) == 4
        seen = remote(agent.port).look(["/other"])
    asked = (fake_node.cdc_raw / "asked").read_text()
    assert asked == "--poll 20 --copy demo t htapkit-e-t 127.0.0.1:7300 /data/a:/data/b"
    assert (seen.data_folders, seen.unread) == (tuple(folders), tuple(folders))
    assert seen.jmx_problem
    assert not list((fake_node.folder / "cassandra-agent").glob("*/*")), "its files are gone"


def test_who_does_not_take_makes_the_reader_wait(
    fake_node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read from it than the connection's own buffers hold; and nothing is lost.

    However long that is: who only takes nothing is not silent.
    """
    monkeypatch.setattr(wire, "SILENT_SECONDS_MAX", 3.0)
    monkeypatch.setattr(wire, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(agent_readers, "STOP_SECONDS_MAX", 1.0)
    with running(fake_node.settings()) as agent, _reader(remote(agent.port), "flood") as child:
        lines = child.lines()
        assert next(lines) == b"x" * 1023 + b"\n"
        # The system's buffers for a connection end at 36 MiB, and what is written is 64.
        written: list[int] = []

        def stands() -> bool:
            written.append(_number(fake_node.cdc_raw / "written"))
            return len(written) > 400 and written[-1] == written[-400] > 0

        wait_for(stands)
        assert written[-1] < 48 << 20
        assert not fake_node.said("input-ended")
        size = 1024
        while size < 62 << 20:
            size += len(next(lines))
        # The reader has ended, and the rest is on its way for longer than anybody has to end.
        polls = count()
        wait_for(lambda: next(polls) > 200)
        assert size + sum(map(len, lines)) == 64 << 20
        assert child.wait() == 0


def _number(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text) if text else 0


def test_a_reader_ends_with_its_client(
    fake_node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone, or silent: its input ends, and so does the next one's when the agent stops."""
    with running(fake_node.settings()) as agent, FaultProxy(agent.port) as proxy:
        with _reader(remote(proxy.port), "wait"):
            assert not fake_node.said("input-ended")
            proxy.cut()
            wait_for(lambda: fake_node.said("input-ended"))
        (fake_node.cdc_raw / "input-ended").unlink()
        monkeypatch.setattr(wire, "SILENT_SECONDS_MAX", 1.0)
        monkeypatch.setattr(wire, "BEAT_SECONDS", 0.1)
        with _reader(remote(proxy.port), "wait") as child:
            wait_for(lambda: fake_node.said("asked"))
            proxy.stall()
            wait_for(lambda: fake_node.said("input-ended"))
            assert list(child.lines()) == []
            assert child.wait() == LOST
            assert "nothing came for 1 s" in child.said
            proxy.flow()
        (fake_node.cdc_raw / "input-ended").unlink()
        with _reader(remote(agent.port), "wait") as child:
            agent.stop()
            assert list(child.lines()) == []
            assert (child.wait(), child.said) == (LOST, "the agent stops")
            wait_for(lambda: fake_node.said("input-ended"))


def test_a_reader_has_one_client(fake_node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is told who has it; the next may have it once it is free."""
    monkeypatch.setattr(agents, "WAIT_SECONDS_MAX", 0.3)
    monkeypatch.setattr(wire, "BEAT_SECONDS", 0.1)
    with running(fake_node.settings(readers=2)) as agent:
        with _reader(remote(agent.port), "wait"):
            with pytest.raises(SourceUnavailable, match=r"log \(events\) is held by 127\.0\.0\.1:"):
                remote(agent.port).read_log(_schema("wait"), None)
            with (
                _reader(remote(agent.port, source="other"), "wait"),
                pytest.raises(SourceUnavailable, match="2 readers run already"),
            ):
                remote(agent.port, source="third").read_log(_schema("wait"), None)
            monkeypatch.setattr(agents, "WAIT_SECONDS_MAX", SECONDS)
        # It may be ending still: who comes back waits for that.
        with _reader(remote(agent.port), "wait") as child:
            assert child.pid > 0


def test_files_are_deleted_where_the_agent_may(fake_node: FakeNode) -> None:
    """Those wholly before the place, while a reader runs, and only then."""
    for number in (100, 200, 300):
        fake_node.segment(number, 50)

    def left() -> list[str]:
        return sorted(path.name for path in fake_node.cdc_raw.glob("*.log"))

    with running(fake_node.settings(delete_cdc_raw=True)) as agent:
        machine = remote(agent.port)
        seen = machine.look()
        assert (seen.segments.end, seen.deletes) == (LogPosition(300, 50), True)
        machine.forget(LogPosition(200, 10))  # no reader runs: it is said again later
        assert len(left()) == 3
        with _reader(machine, "wait") as child:
            machine.forget(LogPosition(200, 10))
            wait_for(lambda: len(left()) == 2)
            assert left()[0].endswith("-200.log")
            told = child.lines()
            fake_node.segment(400, 20)
            # What it tells of the log comes with its lines, of which there are none.
            taker = threading.Thread(target=lambda: list(told), daemon=True)
            taker.start()
            wait_for(lambda: machine.segments().behind(LogPosition(300, 10)) == 40 + 20)
    with running(fake_node.settings()) as agent:
        machine = remote(agent.port)
        assert not machine.look().deletes
        with _reader(machine, "wait"):
            machine.forget(LogPosition(400, 10))
            machine.forget(LogPosition(500, 10))
            assert _looks(agent.port)
    assert len(left()) == 3


def test_a_tail_goes_on_behind_what_it_gave_out(fake_node: FakeNode) -> None:
    """Cut again and again, each mutation comes once, in its order; an agent that is away, too."""
    port = free_port()
    settings = replace(fake_node.settings(), port=port)
    found: list[int] = []
    with FaultProxy(port) as proxy, closing(_tail(proxy.port)) as tail:

        def until(condition: Callable[[], bool]) -> None:
            def reached() -> bool:
                with suppress(SourceUnavailable):
                    while not condition() and (event := tail.next(0.01)) is not None:
                        if isinstance(event, Mutation):
                            found.append(event.position.offset)
                return condition()

            wait_for(reached)

        def has(count: int) -> bool:
            return len(found) >= count

        def restarted(times: int) -> bool:
            return tail.restarts >= times

        with running(settings):
            for more, cuts in ((10, 1), (300, 2), (1, 3)):
                until(partial(has, len(found) + more))
                proxy.cut()
                until(partial(restarted, cuts))
        until(lambda: "does not answer" in tail.why or "ended the connection" in tail.why)
        with running(settings):
            until(partial(has, len(found) + 300))
    assert found == list(range(1, len(found) + 1))


def _tail(port: int) -> LogTail:
    return LogTail(remote(port), lambda: _schema("count"))


def test_the_command(fake_node: FakeNode, tmp_path: Path) -> None:
    """Started, asked, refused a second time, stopped."""
    port = free_port()
    (tmp_path / "token").write_text(TOKEN)
    chain, key = write_tls(tmp_path, trustme.CA())
    file = tmp_path / "cassandra-agent.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\ntoken_file: token\ncdc_raw: {fake_node.cdc_raw}\n"
        f"cassandra_home: {fake_node.folder / 'home'}\n"
        f"tls_certificate: {chain.name}\ntls_key: {key.name}\n"
    )

    def run(*words: str) -> Result:
        return CliRunner().invoke(cassandra_agent, [*words, "--config", str(file)])

    assert isinstance(run("status").exception, SourceUnavailable)
    assert run("stop").exit_code == 3
    command = [sys.executable, "-m", "htapkit", "cassandra-agent", "start", "--config", str(file)]
    started = subprocess.Popen(
        command, env=child_environment(), stderr=subprocess.PIPE, text=True, cwd=tmp_path.parent
    )
    try:
        assert started.stderr is not None
        while "listens on" not in (line := started.stderr.readline()):
            assert line, "it ended"
        shown = run("status")
        assert shown.exit_code == 1, "there is no node: nothing answers over JMX"
        assert shown.output.count("\n") == 1
        assert f"at 127.0.0.1:{port}: nothing answers over JMX" in shown.output
        told = json.loads(run("status", "--json").output)
        assert (told["readers"], told["seen"]["cdc_raw"]) == ([], str(fake_node.cdc_raw))
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 2
        assert f"htapkit: another agent runs with {tmp_path / 'cassandra-agent'}" in again.stderr
        heavy = ("duckdb", "pyarrow", "cassandra", "pyiceberg")
        maps = Path(f"/proc/{started.pid}/maps").read_text()
        assert not [name for name in heavy if f"/{name}/" in maps], "for memory beside the node"
        stopped = run("stop")
        assert (stopped.exit_code, stopped.output) == (0, "cassandra-agent: stopped\n")
        assert started.wait(SECONDS) == 0
    finally:
        started.kill()
        _, log = started.communicate()
    assert TOKEN not in f"{log}{shown.output}{told}"
    assert run("stop").exit_code == 3
