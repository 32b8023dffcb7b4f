"""Where Cassandra's own jars are: in an installation, or fetched once by Maven.

The log is read by Cassandra's own code, so that its formats and rules are never guessed. Nothing is
built; the folder is complete or not there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from htapkit.errors import SourceRefused

JAVA_FOLDER = Path(__file__).parent / "java"
POM = JAVA_FOLDER / "pom.xml"
FETCH_SECONDS_MAX = 600
OTHER = "HTAPKIT_CASSANDRA"
"""A variable: for tests on another version than the pom's."""
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def version() -> str:
    """The version of Cassandra whose jars Maven fetches; HTAPKIT_CASSANDRA names another one."""
    chosen = os.environ.get(OTHER)
    if chosen:
        return chosen
    found = re.search(r"<cassandra\.version>([\d.]+)<", POM.read_text(encoding="utf-8"))
    assert found is not None, "the pom names the version"
    return found[1]


def kept() -> Path:
    """A folder for what can be made again, for all configurations of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "htapkit"


def cache_folder() -> Path:
    """Where fetched jars are kept."""
    return kept() / "cassandra" / version()


def missing() -> str:
    """Why the jars cannot be had here, "" when they can: Java, Maven."""
    if shutil.which("java") is None:
        return "java is not installed (17 is needed)"
    if not cache_folder().is_dir() and shutil.which("mvn") is None:
        return f"mvn is not installed, and {cache_folder()} is not there"
    return ""


def classpath(home: str = "") -> str:
    """For `java -cp`. With `home`, an installation's own jars. Raises SourceRefused."""
    if home:
        libraries = Path(home) / "lib"
        if not any(libraries.glob("apache-cassandra-*.jar")):
            raise SourceRefused(f"no apache-cassandra jar in {libraries}; mend cassandra_home")
        return f"{libraries}/*"
    reason = missing()
    if reason:
        raise SourceRefused(f"cannot run Cassandra's reader: {reason}; or set cassandra_home")
    return f"{_fetched()}/*"


def _fetched() -> Path:
    folder = cache_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        jars = Path(made) / "jars"
        chosen = f"-Dcassandra.version={version()}"
        command = ["mvn", "-q", "-B", "-f", str(POM), _PLUGIN, chosen]
        try:
            done = subprocess.run(
                [*command, "-DincludeScope=runtime", f"-DoutputDirectory={jars}"],
                capture_output=True,
                text=True,
                timeout=FETCH_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SourceRefused(
                f"Maven fetched no jars within {FETCH_SECONDS_MAX} s; set cassandra_home"
            ) from None
        if done.returncode:
            raise SourceRefused(f"Maven: {(done.stdout + done.stderr)[-300:].strip()}")
        try:
            jars.rename(folder)  # complete or not there
        except OSError:
            if not folder.is_dir():  # somebody else was quicker
                raise
    return folder
