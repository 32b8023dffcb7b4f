"""An agent in this process, and a program in place of Java that prints what a test wants.

What is tried is how bytes go: the reader's own words are tried with a real node.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from htapkit_cassandra.agent import Agent
from htapkit_cassandra.agent_settings import AgentSettings, parse
from htapkit_cassandra.here import Here
from htapkit_cassandra.lines import FORMAT
from htapkit_cassandra.remote import Address, Remote

TOKEN = "a-token-of-the-tests"
SECONDS = 60.0
# Named as the program that a reader is run with. Its first argument that is not an option is the
# program's text, then come cdc_raw and the schema: `mode` there says what to do.
_JAVA = r"""#!{python}
import itertools, json, os, pathlib, sys, threading, time
at = next(n for n, word in enumerate(sys.argv) if word.endswith("CommitLogTail.java"))
folder, asked = pathlib.Path(sys.argv[at + 1]), sys.argv[at + 2:]
mode = json.loads(pathlib.Path(asked[0]).read_text())["mode"]
begun = 0
if "--from" in asked:
    begun = int(asked[asked.index("--from") + 1].partition(":")[2])
def gone():
    while sys.stdin.buffer.read(1):
        pass
    (folder / "input-ended").touch()
    os._exit(0)
threading.Thread(target=gone, daemon=True).start()
def say(text):
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
def mutation(number):
    head = '{{"kind": "partition", "table": "t", "key": ["%08x"], "deleted": 1}}\n' % number
    return (head + '{{"kind": "end", "segment": 7, "offset": %d}}\n' % number).encode()
(folder / "asked").write_text(" ".join(asked[1:]))
if mode == "count":
    say(b'{{"kind": "ready", "format": {format}, "tables": []}}\n')
    for number in itertools.count(begun + 1):
        say(mutation(number))
        time.sleep(0.001)
elif mode == "flood":
    line = b"x" * 1023 + b"\n"
    for number in range(64 * 1024):
        say(line)
        if number % 64 == 0:
            (folder / "written").write_text(str(number * 1024))
    sys.stdout.buffer.flush()
    os._exit(0)
elif mode == "odd":
    say(b"a line\n\n" + b"y" * 300000 + b"\nno end")
    sys.stderr.write("first\nwhy it ended")
    sys.stderr.flush()
    os._exit(4)
else:
    threading.Event().wait()
"""


@dataclass(frozen=True, slots=True)
class FakeNode:
    """A folder of a node's log, and an installation whose reader is the program above."""

    folder: Path

    @property
    def cdc_raw(self) -> Path:
        """Where the log is."""
        return self.folder / "cdc_raw"

    def settings(self, **more: object) -> AgentSettings:
        """Of an agent beside it, on a free port."""
        keys: dict[str, object] = {
            "listen": "127.0.0.1:0",
            "cdc_raw": str(self.cdc_raw),
            "cassandra_home": str(self.folder / "home"),
        }
        environment = {"HTAPKIT_AGENT_TOKEN": TOKEN}
        return parse({**keys, **more}, self.folder / "agent.yaml", environment)

    def here(self) -> Here:
        """The same without an agent."""
        return Here(str(self.cdc_raw), cassandra_home=str(self.folder / "home"))

    def segment(self, number: int, size: int) -> None:
        """A file of the log that is synced up to its end."""
        log = self.cdc_raw / f"CommitLog-7-{number}.log"
        log.write_bytes(b"x" * size)
        log.with_name(f"CommitLog-7-{number}_cdc.idx").write_text(f"{size}\n")

    def said(self, name: str) -> bool:
        """Whether the program has left that file."""
        return (self.cdc_raw / name).exists()


@pytest.fixture
def fake_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    """Empty."""
    for name in ("bin", "cdc_raw", "home/lib"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "lib" / "apache-cassandra-5.0.9.jar").touch()
    java = tmp_path / "bin" / "java"
    java.write_text(_JAVA.format(python=sys.executable, format=FORMAT))
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{java.parent}:{Path('/usr/bin')}:{Path('/bin')}")
    return FakeNode(tmp_path)


@contextmanager
def running(settings: AgentSettings) -> Iterator[Agent]:
    """An agent that serves until the end, and then has no reader."""
    agent = Agent(settings)
    thread = threading.Thread(target=agent.run, daemon=True)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


def remote(port: int, token: str = TOKEN, source: str = "events") -> Remote:
    """What htapkit has of an agent on this machine."""
    return Remote(Address("127.0.0.1", port, token), source)


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
