"""Our Java programs as they are run: compiled once for a machine and its jars, or from source.

Beside a compiled one lies Java's own picture of the classes that it loads first, from which it
starts in a fraction of the time. Both are in a cache that anybody may empty. Where none can be
made, Java compiles the program each time that it starts, which does the same later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from htapkit_cassandra.jars import JAVA_FOLDER, kept

READER: Final = "CommitLogTail"
KEPT_MAX: Final = 8  # compiled ones, of which each wants 28 MB
SECONDS_MAX: Final = 300  # of a run that prepares others
_OPENS: Final = f"@{JAVA_FOLDER / 'opens.options'}"
# What Java itself has to say is for standard error: standard output is the program's.
_QUIET: Final = ("-Xlog:disable", "-Xlog:all=error:stderr")
# What the reader is tried with, so that Java sees which classes it loads: an empty log.
_TRIED: Final = {
    "ignored": [],
    "statements": [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.t (p text, c int, s int static, v map<text, int>, PRIMARY KEY (p, c))"
        " WITH ID = 00000000-0000-1000-8000-000000000001 AND cdc = true",
    ],
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program's classes, and the picture of those that it loads."""

    jar: Path
    picture: Path


def command(
    program: str, classpath: str, memory: str, folder: Path, options: Sequence[str]
) -> list[str]:
    """The command line of one of our programs, to which its arguments are added.

    `nice`, because the node beside it matters more; its temporary files lie in `folder`.
    """
    run = ["nice", *_java(memory.removesuffix("B").lower(), folder), *options]
    made = compiled(program, classpath)
    if made is None:
        return [*run, "-cp", classpath, str(JAVA_FOLDER / program)]
    if made.picture.exists():
        run.append(f"-XX:SharedArchiveFile={made.picture}")
    return [*run, "-cp", f"{made.jar}:{classpath}", Path(program).stem]


def compiled(program: str, classpath: str) -> Compiled | None:
    """The program compiled with these jars, now if it was not; None where that cannot be."""
    source = JAVA_FOLDER / program
    try:
        jar = kept() / "programs" / f"{source.stem}-{_fingerprint(source, classpath)}.jar"
        made = Compiled(jar, jar.with_suffix(".jsa"))
        if not jar.exists():
            jar.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
                _compile(source, classpath, Path(folder), made)
            _tidy(jar.parent)
    except (OSError, subprocess.SubprocessError) as error:
        _log.info("%s is run from source: %s", program, error)
        return None
    return made


def _java(heap: str, folder: Path) -> list[str]:
    logback = f"-Dlogback.configurationFile={JAVA_FOLDER / 'logback.xml'}"
    return ["java", f"-Xmx{heap}", f"-Djava.io.tmpdir={folder}", logback, _OPENS, *_QUIET]


def _fingerprint(source: Path, classpath: str) -> str:
    """Another one for each program, set of jars, and Java."""
    java = Path(shutil.which("java") or "java").resolve(strict=True)
    seen = [(str(path), path.stat().st_mtime_ns) for path in (java, *_jars(classpath))]
    return hashlib.sha256(repr((source.read_bytes(), seen)).encode()).hexdigest()[:20]


def _jars(classpath: str) -> list[Path]:
    """What `folder/*` stands for; the compiler does not take it."""
    return sorted(Path(classpath.removesuffix("/*")).glob("*.jar"))


def _compile(source: Path, classpath: str, folder: Path, made: Compiled) -> None:
    """Raises OSError, SubprocessError. Others may do the same; what is there is whole."""
    classes, jar = folder / "classes", folder / made.jar.name
    jars = ":".join(map(str, _jars(classpath)))
    compiler = ["-m", "jdk.compiler/com.sun.tools.javac.Main", "-proc:none", "-nowarn"]
    options = [f"@{JAVA_FOLDER / 'jvm.options'}"]
    _run(["java", *options, *compiler, "-d", str(classes), "-cp", jars, str(source)])
    with zipfile.ZipFile(jar, "w") as archive:
        for path in sorted(classes.iterdir()):
            archive.write(path, path.name)
    jar.rename(made.jar)
    if source.stem != READER:
        return
    # The picture is of a jar at its own place, so it comes second: some are started without it.
    schema, picture, log = folder / "schema.json", folder / made.picture.name, folder / "log"
    log.mkdir()
    schema.write_text(json.dumps(_TRIED), encoding="utf-8")
    run = [*_java("512m", folder), *options, f"-XX:ArchiveClassesAtExit={picture}"]
    _run([*run, "-cp", f"{made.jar}:{classpath}", READER, str(log), str(schema), "--once"])
    picture.rename(made.picture)


def _run(command: list[str]) -> None:
    """Raises SubprocessError with the end of what it said, and OSError."""
    ours, theirs = os.pipe()  # its input stays open until it has ended: it ends with that
    try:
        done = subprocess.run(
            command, stdin=ours, capture_output=True, timeout=SECONDS_MAX, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")[-500:].strip()
        raise subprocess.SubprocessError(f"code {done.returncode}: {said}")


def _tidy(folder: Path) -> None:
    """Keep the newest few; what a running Java has of others stays until it ends."""
    jars = sorted(folder.glob("*.jar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for jar in jars[KEPT_MAX:]:
        jar.with_suffix(".jsa").unlink(missing_ok=True)
        jar.unlink(missing_ok=True)
