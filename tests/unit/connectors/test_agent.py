"""What of an agent needs no connection: frames, lines, questions, settings."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from htapkit.errors import ConfigError, SourceUnavailable
from htapkit.spi import SourceOptions
from htapkit_cassandra import CassandraSource, link
from htapkit_cassandra.agent import Asked, reader_asked
from htapkit_cassandra.agent_settings import AgentSettings, load, parse
from htapkit_cassandra.here import Here
from htapkit_cassandra.link import Frames, WholeLines, host_and_port, is_loopback
from htapkit_cassandra.machine import Copied, Seen
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.remote import Address, Remote, seen_of, told_seen
from htapkit_cassandra.replicas import Member
from htapkit_cassandra.ring import Ring
from htapkit_cassandra.segments import Segments
from htapkit_cassandra.settings import Settings, parse_settings

TOKEN = "0123456789abcdef"


def _pieces(data: bytes, rolled: random.Random) -> list[bytes]:
    cuts = sorted(rolled.choices(range(len(data) + 1), k=9))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def test_frames_come_whole_however_they_are_cut() -> None:
    """Each once, in their order; a larger one than allowed is refused by its head alone."""
    sent = [(b"O", b""), (b"E", b"abc"), (b"O", bytes(range(256)) * 3)]
    data = b"".join(kind + len(text).to_bytes(4, "big") + text for kind, text in sent)
    for seed in range(50):
        frames = Frames(1000)
        rolled = random.Random(seed)
        found = [f for piece in _pieces(data, rolled) for f in frames.feed(piece)]
        assert found == sent, seed
    with pytest.raises(ValueError, match="1001 bytes; 1000 at most"):
        Frames(1000).feed(b"O" + (1001).to_bytes(4, "big"))


def test_lines_come_whole_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the last end is kept apart; one line is not longer than the limit."""
    data = b"one\n\n" + b"x" * 50 + b"\ntwo\nrest"
    for seed in range(50):
        lines = WholeLines()
        rolled = random.Random(seed)
        found = [line for piece in _pieces(data, rolled) for line in lines.feed(piece)]
        assert found == [b"one\n", b"\n", b"x" * 50 + b"\n", b"two\n"], seed
        assert lines.rest() == b"rest"
    monkeypatch.setattr(link, "LINE_BYTES_MAX", 10)
    lines = WholeLines()
    assert lines.feed(b"123456789\n123456") == [b"123456789\n"]
    with pytest.raises(ValueError, match="more than 10 bytes"):
        lines.feed(b"78901")


def test_addresses() -> None:
    """With a port; what is on loopback by its number, not by its looks."""
    assert host_and_port("10.0.0.1:9142") == ("10.0.0.1", 9142)
    assert host_and_port("[::1]:9142") == ("::1", 9142)
    wrong = ["", "9142", ":9142", "a:", "a:b", "a:70000", "::1:9142", "[a]:1:2"]
    assert [text for text in wrong if host_and_port(text) is not None] == []
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("10.0.0.1", "::", "127.0.0.x", ""))


def test_what_is_seen_is_told_whole() -> None:
    """Both ways, and the segments with it."""
    seen = Seen(
        java="",
        jars="jars",
        cdc_raw="/cdc",
        readable=True,
        used_bytes=7,
        segments=Segments(LogPosition(3, 40), ((2, 70), (3, 80))),
        deletes=False,
        jmx="127.0.0.1:7199",
        jmx_problem="no",
        data_folders=("/a", "/b"),
        unread=("/b",),
        agent="1",
    )
    assert seen_of({**told_seen(seen), "agent": "1"}) == seen


def _question(**more: object) -> dict[str, object]:
    return {"ask": "log", "source": "events", "schema": "{}", "from": None, **more}


TABLE = {"ask": "table", "keyspace": "demo", "table": "t", "tag": "htapkit-events-t"}


def test_questions_for_a_reader() -> None:
    """Of the log, from a place or from its start, and of a table's files."""
    log, place = reader_asked(_question()), reader_asked(_question(**{"from": "12:34"}))
    assert log == Asked("events", "{}")
    assert place.start == LogPosition(12, 34)
    table = reader_asked(_question(**TABLE))
    assert table.copied == Copied("demo", "t", "htapkit-events-t")
    parts = reader_asked(_question(**TABLE, after=-(2**63)))
    assert parts.copied == Copied("demo", "t", "htapkit-events-t", -(2**63))
    assert len({log.name, table.name, reader_asked(_question(source="other")).name}) == 3


@pytest.mark.parametrize(
    "more",
    [
        {"ask": "other"},
        {"source": "../events"},
        {"source": None},
        {"schema": "[]"},
        {"schema": "no json"},
        {"from": "12"},
        {"from": "12:34 --once"},
        {"from": "١:٢"},
        {**TABLE, "keyspace": "../../etc"},
        {**TABLE, "table": "t/../u"},
        {**TABLE, "table": "t\n"},
        {**TABLE, "tag": ".."},
        {**TABLE, "tag": "a/b"},
        {**TABLE, "tag": ""},
        {**TABLE, "after": "1 --poll"},
        {**TABLE, "after": 2**63},
        {**TABLE, "after": True},
    ],
)
def test_what_is_no_question_is_refused(more: dict[str, object]) -> None:
    """Whatever could lead out of the node's folders, or be taken for an option."""
    with pytest.raises((ValueError, TypeError)):
        reader_asked(_question(**more))


def _settings(folder: Path, **keys: object) -> AgentSettings:
    found = {"cdc_raw": "/cdc", **keys}
    return parse(found, folder / "agent.yaml", {"HTAPKIT_AGENT_TOKEN": TOKEN})


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"cdc_raw": None}, "agent.yaml.cdc_raw"),
        ({"listen": "9142"}, "agent.yaml.listen: expected host:port"),
        ({"listen": "10.0.0.1:9142"}, "not on loopback"),
        ({"listen": "0.0.0.0:9142"}, "not on loopback"),
        ({"tls_key": "x.pem"}, "tls_certificate and tls_key go together"),
        ({"token_file": "absent"}, "agent.yaml.token_file: cannot read"),
        ({"readers": 0}, "agent.yaml.readers"),
        ({"port": 9142}, "unknown key agent.yaml.port"),
        ({"token": TOKEN}, "unknown key agent.yaml.token"),
    ],
)
def test_wrong_settings_of_an_agent_are_named(
    tmp_path: Path, keys: dict[str, object], named: str
) -> None:
    """Beyond loopback it wants TLS, unless it is told that something else encrypts."""
    with pytest.raises(ConfigError) as raised:
        _settings(tmp_path, **keys)
    assert named in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_settings_of_an_agent(tmp_path: Path) -> None:
    """What is relative lies beside the file; the token comes from a file or the environment."""
    file = tmp_path / "agent.yaml"
    (tmp_path / "token").write_text(f"{TOKEN}{TOKEN}\n")
    file.write_text("cdc_raw: /cdc\ntoken_file: token\nlisten: 10.0.0.1:9142\nplain: true\n")
    found = load(file, {"HTAPKIT_AGENT_TOKEN": "another"})
    assert (found.token, found.folder) == (TOKEN + TOKEN, tmp_path / "cassandra-agent")
    assert (found.listen, found.delete_cdc_raw) == ("10.0.0.1:9142", False)
    assert TOKEN not in repr(found)
    encrypted = _settings(tmp_path, listen="[::]:9142", tls_certificate="c.pem", tls_key="k.pem")
    assert encrypted.tls_key == str(tmp_path / "k.pem")
    assert encrypted.listen == "[::]:9142"
    for token in ("", "short"):
        with pytest.raises(ConfigError, match=f"HTAPKIT_AGENT_TOKEN.*found {len(token)}"):
            parse({"cdc_raw": "/cdc"}, file, {"HTAPKIT_AGENT_TOKEN": token})
    for text in ("- a", "a: [", "\x00"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"agent\.yaml"):
            load(file, {})
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "absent.yaml", {})


def _options(**settings: object) -> SourceOptions:
    return SourceOptions("events", settings, 5, 1, 1, 1, 1, None)


AGENT = {"agent": "10.0.0.1:9142", "agent_token": TOKEN, "agent_ca": "ca.pem"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**AGENT, "cdc_raw": "/cdc"}, "sources.events: cdc_raw beside agent"),
        ({**AGENT, "data_folders": ["/d"]}, "data_folders beside agent"),
        ({**AGENT, "agent": "10.0.0.1"}, "sources.events.agent: expected host:port"),
        ({"agent": "127.0.0.1:9142"}, "sources.events.agent_token"),
        ({"agent": "10.0.0.1:9142", "agent_token": TOKEN}, "in plain text"),
        ({"agent_token": [TOKEN]}, "sources.events.agent_token"),
        ({**AGENT, "nodes": [{"address": "a", "cdc_raw": "/c"}]}, "agent beside nodes"),
        (
            {"nodes": [{"address": "a", "agent": "10.0.0.1:9142", "agent_token": TOKEN}]},
            "in plain text",
        ),
        (
            {**AGENT, "agent": "b:1", "nodes": [{"address": "a", "agent": "b:1", "jmx_port": 1}]},
            "nodes[0]: jmx_port beside agent",
        ),
    ],
)
def test_wrong_settings_of_a_source_are_named(settings: dict[str, object], named: str) -> None:
    """And its token is never shown, nor sent where others may read along."""
    with pytest.raises(ConfigError) as raised:
        parse_settings(_options(**settings))
    assert named in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_nodes_with_agents_and_without() -> None:
    """Each has its own, and its own token or the source's."""
    nodes = [
        {"address": "a", "agent": "a:1"},
        {"address": "b", "agent": "b:1", "agent_token": TOKEN[::-1]},
        {"address": "c", "cdc_raw": "/c"},
    ]
    settings = parse_settings(_options(nodes=nodes, agent_token=TOKEN, agent_plain=True))
    found = [(one.agent, one.agent_token, one.cdc_raw) for one in settings.each()]
    assert found[:2] == [("a:1", TOKEN, ""), ("b:1", TOKEN[::-1], "")]
    assert (found[2][0], found[2][2]) == ("", "/c")
    assert TOKEN not in repr(settings)
    assert TOKEN[::-1] not in repr(settings)


def test_an_agent_that_is_away_holds_up_nobody_but_itself(tmp_path: Path) -> None:
    """While another node's files are seen: it is that log's reader that waits for it."""
    nodes = {f"id{n}": Settings("events", cdc_raw=str(tmp_path)) for n in range(2)}
    ring = Ring(tuple(Member(node, node, "dc") for node in nodes), nodes)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "apache-cassandra-5.0.9.jar").touch()
    here = Here(str(tmp_path), cassandra_home=str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    away = Remote(Address("127.0.0.1", port, "a-token-of-the-tests"), "events")
    listed = [{"address": node, "cdc_raw": "/cdc"} for node in nodes]
    source = CassandraSource(_options(nodes=listed))
    if not here.look().java:  # else that is said, which is an error of this machine
        source._refuse_errors(ring, {"id0": here, "id1": away})
    with pytest.raises(SourceUnavailable, match=f"agent at 127.0.0.1:{port} does not answer"):
        source._refuse_errors(ring, {"id0": away, "id1": away})
