"""A private Cassandra node as a child process, from the jars that the connector's own pom fetches.

For the demo and the tests: a node, mostly alone in its ring, that forgets everything with its
folder.
Whoever makes the folder removes it, and guards it against his own sudden end.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from cassandra.cluster import Session

from htapkit.errors import SourceUnavailable
from htapkit_cassandra.cluster import session
from htapkit_cassandra.jars import JAVA_FOLDER, cache_folder, classpath
from htapkit_cassandra.settings import Settings

HOST = "127.0.0.1"
HEAP = "384m"
START_SECONDS_MAX = 600
ANSWER_SECONDS_MAX = 120  # instead of 2 for a write: others use the machine, too
_YAML = """\
cluster_name: htapkit
num_tokens: 4
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{seeds}"}}]
listen_address: {host}
rpc_address: {host}
storage_port: {storage}
native_transport_port: {cql}
endpoint_snitch: SimpleSnitch
data_file_directories: [{base}/data]
commitlog_directory: {base}/commitlog
cdc_raw_directory: {base}/cdc_raw
hints_directory: {base}/hints
saved_caches_directory: {base}/saved_caches
commitlog_sync: periodic
commitlog_sync_period: 50ms
commitlog_segment_size: 1MiB
cdc_enabled: true
cdc_total_space: 256MiB
auto_snapshot: false
concurrent_reads: 4
concurrent_writes: 4
memtable_heap_space: 32MiB
memtable_offheap_space: 32MiB
key_cache_size: 4MiB
read_request_timeout: {seconds}s
range_request_timeout: {seconds}s
write_request_timeout: {seconds}s
counter_write_request_timeout: {seconds}s
truncate_request_timeout: {seconds}s
request_timeout: {seconds}s
file_cache_size: 32MiB
networking_cache_size: 16MiB
"""
_LOGBACK = """\
<configuration><appender name="log" class="ch.qos.logback.core.ConsoleAppender">
<encoder><pattern>%level %d{HH:mm:ss.SSS} %logger{0} %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="log"/></root></configuration>
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a node is, and the others of its ring; the ports are the same at all of them."""

    host: str
    port: int  # CQL
    storage_port: int
    ring: tuple[str, ...]


class CassandraNode:
    """One node with everything below `folder`; without `addresses` it is alone in its ring."""

    def __init__(
        self, folder: Path, free_port: Callable[[], int], addresses: Addresses | None = None
    ) -> None:
        """Write its configuration; `start` starts it."""
        self.folder = folder
        at = addresses or Addresses(HOST, free_port(), free_port(), (HOST,))
        self.host = at.host
        self.port = at.port
        self.jmx_port = free_port()
        self._log = folder / "log"
        self._seen = 0  # of the log: what earlier starts wrote
        self._process: subprocess.Popen[bytes] | None = None
        conf = folder / "conf"
        for name in ("conf", "tmp", "cdc_raw"):
            (folder / name).mkdir()
        ports = {"storage": at.storage_port, "cql": self.port}
        # All are seeds: none of them waits to be given data that is not there.
        seeds = ",".join(f"{host}:{at.storage_port}" for host in at.ring)
        text = _YAML.format(
            host=self.host, base=folder, seconds=ANSWER_SECONDS_MAX, seeds=seeds, **ports
        )
        (conf / "cassandra.yaml").write_text(text)
        (conf / "logback.xml").write_text(_LOGBACK)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """It, once it was started."""
        assert self._process is not None
        return self._process

    @property
    def cdc_raw(self) -> Path:
        """Where its log is read."""
        return self.folder / "cdc_raw"

    def settings(self, **more: object) -> dict[str, object]:
        """For the configuration of a source."""
        own = {"port": self.port, "jmx_port": self.jmx_port, "cdc_raw": str(self.cdc_raw)}
        return {"hosts": [self.host], **own, **more}

    def session(self) -> AbstractContextManager[Session]:
        """To enter."""
        return session(Settings("events", (self.host,), self.port))

    def start(self) -> None:
        """Run it until it answers over CQL. Raises SourceRefused, SourceUnavailable."""
        self.spawn()
        self.wait_started()

    def spawn(self) -> None:
        """Start the process, and do not wait for it. Raises SourceRefused: Java, Maven."""
        jars = classpath()  # fetched, if they are not there yet
        (agent,) = cache_folder().glob("jamm-*.jar")
        base, conf = self.folder, self.folder / "conf"
        properties = {
            "cassandra.config": f"file://{conf}/cassandra.yaml",
            "cassandra.storagedir": base,
            "cassandra.logdir": base,
            "cassandra-foreground": "yes",
            "cassandra.jmx.local.port": self.jmx_port,
            "cassandra.ring_delay_ms": 100,
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.superuser_setup_delay_ms": -1,
            "java.io.tmpdir": base / "tmp",
            "logback.configurationFile": f"file://{conf}/logback.xml",
            "jdk.attach.allowAttachSelf": "true",
            "io.netty.tryReflectionSetAccessible": "true",
        }
        command = [
            "java",
            "-Djava.security.manager=allow",
            f"-Xms{HEAP}",
            f"-Xmx{HEAP}",
            "-XX:MaxDirectMemorySize=128m",
        ]
        command += ["-Xss512k", f"@{JAVA_FOLDER / 'jvm.options'}"]
        command += [f"@{JAVA_FOLDER / 'opens.options'}"]
        command += [f"-javaagent:{agent}"]
        command += [f"-D{name}={value}" for name, value in properties.items()]
        command += ["-cp", f"{conf}:{jars}", "org.apache.cassandra.service.CassandraDaemon"]
        self._seen = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops it
            )

    def wait_started(self) -> None:
        """Until it answers over CQL. Raises SourceUnavailable with the end of its log."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace")[-3000:]
                raise SourceUnavailable(f"the private Cassandra node did not start:\n{said}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """The log says so a moment before it is true."""
        if b"Starting listening for CQL clients" not in self._log.read_bytes()[self._seen :]:
            return False
        try:
            with self.session():
                return True
        except SourceUnavailable:
            return False

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it, if it runs; what it has is thrown away, so it need not say good-bye."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
