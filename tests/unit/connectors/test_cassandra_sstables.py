"""The program that makes files, when it is not what it should be: nobody waits for it for ever."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import pytest

from htapkit.errors import SourceRefused
from htapkit.model import TableId
from htapkit_cassandra import sstables
from htapkit_cassandra.destination import Destination
from htapkit_cassandra.sstables import Job, Program

SECONDS = 60.0
_TO = Destination(
    TableId("s", "k", "t"), "", (), cdc=False, followed=False, types=(), create="",
    release="5.0.1", partitioner="", mode="", cdc_on_repair=True,
)  # fmt: skip


def _program(monkeypatch: pytest.MonkeyPatch, code: str) -> Program:
    """One in its place, which reads all that it is sent."""
    text = f"import sys\nsys.stdin.buffer.read(4)\n{code}\nsys.stdin.buffer.read()"
    monkeypatch.setattr(sstables, "_command", lambda *_: [sys.executable, "-c", text])
    return Program(Job("", Path(), "512MB", ""), _TO, ["k"], 1)


def test_a_line_that_is_none_of_its_own_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is killed where it goes on."""
    monkeypatch.setattr(sstables, "_STOP_SECONDS_MAX", 0.2)
    program = _program(monkeypatch, "print('Terminating due to OutOfMemoryError', flush=True)")
    found: list[BaseException] = []

    def finish() -> None:
        try:
            program.finish(1, loading=lambda: None)
        except SourceRefused as refused:
            found.append(refused)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert "s.k.t: Terminating due to OutOfMemoryError (code -9); raise helper_memory" in str(
        found[0]
    )
    program.stop()


def test_it_is_said_that_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as it says nothing."""
    monkeypatch.setattr(sstables, "_QUIET_SECONDS", 0.01)
    program = _program(monkeypatch, "import time; time.sleep(0.1)\nsys.exit(4)")
    with caplog.at_level(logging.WARNING), pytest.raises(SourceRefused, match="code 4"):
        program.finish(1, loading=lambda: None)
    assert "s.k.t: the program that makes and loads its files is waited for" in caplog.text
    program.stop()
