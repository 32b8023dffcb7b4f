"""The README's commands, executed: what a newcomer types must work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from htapkit_cassandra.jars import missing

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = [sys.executable, "-m", "htapkit", "demo", "--rows-scale", "0.1"]
BOTH_SECONDS_MAX = 800  # its readers, programs of Java, yield to everything else that runs

# A demo starts a PostgreSQL, fills it and copies all: minutes, where others use the machine.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def _targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9-]+):.*## ", text, flags=re.MULTILINE))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory for everything temporary that a demo makes; PostgreSQL's user can reach it."""
    directory = Path(tempfile.mkdtemp(prefix="htapkit-e2e-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def _environment(scratch: Path) -> dict[str, str]:
    path = f"{ROOT}:{ROOT / 'connectors'}"
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(scratch)}


def _left_behind(scratch: Path) -> set[str]:
    """What lies in the directory, and processes that work in it; not a copy of the programs."""
    found = {p.name for p in scratch.iterdir() if "pginstall" not in p.name}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd = str((process / "cwd").readlink())
        except OSError:
            continue
        if cwd.startswith(f"{scratch}/"):
            found.add(process.name)
    return found


def test_two_commands_come_first_and_exist() -> None:
    """The first block of the README is `make demo` and `make test`."""
    first = re.findall(r"```\n(.*?)```", README, flags=re.DOTALL)[0]
    commands = [line.partition("#")[0].strip() for line in first.strip().splitlines()]
    assert commands == ["make demo", "make test"]


def test_every_make_target_of_the_readme_exists() -> None:
    """No target is promised that is not there."""
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= _targets()


def test_help_lists_every_target() -> None:
    """`make` alone says what there is."""
    shown = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True)
    assert _targets() <= {line.split()[0] for line in shown.stdout.splitlines() if line.strip()}


def test_demo_answers_from_the_copy_and_leaves_nothing(scratch: Path) -> None:
    """The demo ends by itself with exit code 0: five equal answers, all from the copy."""
    done = subprocess.run(
        [*DEMO, "--seconds", "10"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=_environment(scratch),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "5 of 5 answers equal, 5 given by the copy" in done.stdout
    assert "5 of 5 answers equal, 5 given by copy and lake" in done.stdout
    assert re.search(r"[1-9][\d,]+ rows older than 90 days are in Iceberg tables", done.stdout)
    assert re.search(r"psql postgresql://\S+:\d+/shop", done.stdout)
    average = re.search(r"the shop made ([\d,]+) transactions/s", done.stdout)
    assert average
    assert int(average[1].replace(",", "")) > 0
    assert not _left_behind(scratch)


@pytest.mark.long
@pytest.mark.cassandra
def test_demo_of_both_sources(scratch: Path) -> None:
    """Reads, counts and a join over Cassandra and PostgreSQL, each equal to the sources' own."""
    if reason := missing():
        pytest.skip(reason)
    done = subprocess.run(
        [*DEMO, "--source", "both", "--seconds", "20", "--rate", "100"],
        capture_output=True,
        text=True,
        timeout=BOTH_SECONDS_MAX,
        check=False,
        env=_environment(scratch),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    both = "3 of 3 answers equal, 3 given by the copy, over Cassandra and PostgreSQL"
    assert both in done.stdout
    assert "5 of 5 answers equal, 5 given by the copy\n" in done.stdout
    assert re.search(r"one Cassandra node at 127\.0\.0\.1:\d+, 5,000 events", done.stdout)
    assert re.search(r"events \d+ operations/s, p50/p99 reads [\d.,/]+, writes", done.stdout)
    waits = re.findall(r"│ (read|write) +│ ([1-9][\d,]*) +│ [\d.,]+ ms +│ [\d.,]+ ms", done.stdout)
    assert [kind for kind, _ in waits] == ["read", "write"] * 2, done.stdout
    assert not _left_behind(scratch)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_demo_ends_cleanly_when_interrupted(
    how: signal.Signals, scratch: Path, tmp_path: Path
) -> None:
    """Ctrl-C, kill, and kill -9 in the middle: no process and no file is left."""
    log = tmp_path / "log"
    with log.open("w") as out:
        demo = subprocess.Popen(DEMO, stdout=out, stderr=out, env=_environment(scratch))
    with demo:
        end = time.monotonic() + 600
        while "try it" not in log.read_text():
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        demo.send_signal(how)
        demo.wait(120)
    if how is not signal.SIGKILL:
        assert "nothing is left behind" in log.read_text()
        assert demo.returncode in {0, 1}
    end = time.monotonic() + 60
    while _left_behind(scratch) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _left_behind(scratch)
