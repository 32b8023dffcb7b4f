"""One real Kafka broker for the whole session, from Maven's jars, started when first asked for."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port

POM = Path(__file__).parent / "kafka" / "pom.xml"
SECONDS = 300.0  # others use the machine, too
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_CLUSTER = "4L6g3nShT-eMCtK--X86sw"
_JAVA = ("java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/logs
num.partitions=3
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
"""
_names = itertools.count(1)


def _jars_folder() -> Path:
    version = re.search(r"kafka_[\d.]+</artifactId>\s*<version>([\d.]+)<", POM.read_text())
    assert version is not None, "the pom names the version"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "htapkit" / "kafka" / version[1]


def missing() -> str:
    """Why no broker can be run here; "" where one can. Fetches the jars if they are not there."""
    if shutil.which("java") is None:
        return "java is not installed (17 is needed)"
    folder = _jars_folder()
    if folder.is_dir():
        return ""
    if shutil.which("mvn") is None:
        return f"mvn is not installed, and {folder} is not there"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        jars = Path(made) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(POM), _PLUGIN, "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={jars}"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            return f"Maven: {(done.stdout + done.stderr)[-300:].strip()}"
        if not folder.is_dir():
            jars.rename(folder)  # complete or not there
    return ""


class Broker:
    """One node that is broker and controller, with everything below `folder`."""

    def __init__(self, folder: Path) -> None:
        """Format its folder; `start` starts it."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._properties = folder / "server.properties"
        self._properties.write_text(
            _PROPERTIES.format(port=self.port, controller=free_port(), folder=folder)
        )
        self._classpath = f"{_jars_folder()}/*"
        tool = [*_JAVA, "-cp", self._classpath, "kafka.tools.StorageTool", "format"]
        tool += ["-t", _CLUSTER, "-c", str(self._properties)]
        subprocess.run(tool, cwd=folder, capture_output=True, check=True, timeout=SECONDS)

    def start(self) -> None:
        """Run it until it answers."""
        command = [*_JAVA, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]
        command += [self._classpath, "kafka.Kafka", str(self._properties)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + SECONDS
        while not self.answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError((self._folder / "log").read_text(errors="replace")[-3000:])

    def answers(self) -> bool:
        """Whether it says what topics there are."""
        try:
            AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    def kill(self) -> None:
        """As a crash would. What it acknowledged is in the kernel's pages."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Started once; tests have sinks of their own names."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="htapkit-kafka-") as folder:
        guard = Guard(Path(folder))
        node = Broker(Path(folder))
        try:
            node.start()
            yield node
        finally:
            node.kill()
            guard.release()


@pytest.fixture
def sink_name() -> str:
    """A sink that no other test has, and with it a topic."""
    return f"sink_{os.getpid()}_{next(_names)}"
