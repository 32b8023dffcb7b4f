"""Which command runs our Java programs; what is compiled is tried with a real Java elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from htapkit_cassandra.jars import JAVA_FOLDER
from htapkit_cassandra.programs import KEPT_MAX, command, compiled

# It leaves a class where the compiler would, or says why not; runs of the program are as they were.
_JAVA = """#!/bin/sh
echo "$@" >> {folder}/asked
[ -e {folder}/broken ] && echo "error: cannot find symbol" && exit 1
while [ $# -gt 0 ]; do
  case "$1" in
    -d) mkdir -p "$2" && touch "$2/Program.class" ;;
    -XX:ArchiveClassesAtExit=*) touch "${{1#*=}}" ;;
  esac
  shift
done
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Java of its own, two jars and an empty cache."""
    for name in ("bin", "lib", "cache"):
        (tmp_path / name).mkdir()
    for name in ("a.jar", "b.jar"):
        (tmp_path / "lib" / name).touch()
    java = tmp_path / "bin" / "java"
    java.write_text(_JAVA.format(folder=tmp_path))
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{java.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _asked(machine: Path) -> int:
    return len((machine / "asked").read_text().splitlines())


def test_a_program_is_compiled_once(machine: Path) -> None:
    """And tried once; with other jars both are done again."""
    jars = f"{machine}/lib/*"
    first = compiled("CommitLogTail.java", jars)
    assert first is not None
    assert first.jar.exists()
    assert first.picture.exists()
    assert (compiled("CommitLogTail.java", jars), _asked(machine)) == (first, 2)
    run = command("CommitLogTail.java", jars, "256MB", machine, [])
    assert f"-XX:SharedArchiveFile={first.picture}" in run
    assert run[-3:] == ["-cp", f"{first.jar}:{jars}", "CommitLogTail"]
    os.utime(machine / "lib" / "a.jar", ns=(0, 0))
    other = compiled("CommitLogTail.java", jars)
    assert other is not None
    assert other != first
    assert _asked(machine) == 4


def test_what_cannot_be_compiled_is_run_from_source(machine: Path) -> None:
    """Which says why; so does what has no place for compiled programs."""
    source = str(JAVA_FOLDER / "CommitLogTail.java")
    jars = f"{machine}/lib/*"
    (machine / "broken").touch()
    assert command("CommitLogTail.java", jars, "256MB", machine, [])[-3:] == ["-cp", jars, source]
    (machine / "broken").unlink()
    (machine / "cache" / "htapkit" / "programs").rmdir()
    (machine / "cache" / "htapkit" / "programs").touch()  # no folder
    assert command("CommitLogTail.java", jars, "256MB", machine, [])[-3:] == ["-cp", jars, source]


def test_the_newest_are_kept(machine: Path) -> None:
    """Each version of a program and of its jars leaves one."""
    for number in range(KEPT_MAX + 2):
        os.utime(machine / "lib" / "a.jar", ns=(number, number))
        last = compiled("CommitLogTail.java", f"{machine}/lib/*")
    assert last is not None
    left = list(last.jar.parent.iterdir())
    assert len(left) == 2 * KEPT_MAX
    assert last.picture in left
