"""An S3 server as a child process: versitygw over a folder, built by Go where it is not there yet.

A real server of its own making, no mock of a client. It listens on loopback only.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from htapkit.errors import HtapkitError
from htapkit.testing.postgres import free_port
from htapkit.testing.stack import wait_until

VERSION = "v1.8.0"
_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
_BUILD_SECONDS = 280.0
_START_SECONDS = 60.0
ACCESS, SECRET, REGION = "htapkit", "htapkit-secret", "us-east-1"  # of a server for tests


class NoS3Server(HtapkitError):
    """There is no versitygw and it cannot be built; the message says why."""

    sqlstate = "58000"


def program() -> Path:
    """The server's program, built once for each user. Raises NoS3Server."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "htapkit" / f"versitygw-{VERSION}" / "versitygw"
    if built.exists():
        return built
    go = shutil.which("go")
    if go is None:
        raise NoS3Server(f"no versitygw at {built}, and Go, which builds it, is not installed")
    folder = built.parent.with_name(f"{built.parent.name}.{os.getpid()}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [go, "install", _MODULE],
            env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise NoS3Server(f"versitygw cannot be built: {lines[-1]}")
        built.parent.mkdir(parents=True, exist_ok=True)
        (folder / built.name).replace(built)  # at once, whoever else has built it meanwhile
    except subprocess.TimeoutExpired:
        raise NoS3Server(f"versitygw was not built within {_BUILD_SECONDS:g} s") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return built


class S3Server:
    """A server over a folder; a bucket is a folder in it. A context manager."""

    def __init__(self, folder: Path, secret: str = SECRET) -> None:
        """Nothing runs before `start`."""
        self._folder = folder.resolve()
        self._secret = secret
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def properties(self) -> Mapping[str, str]:
        """What a pyiceberg catalog needs to know to use it."""
        return {
            "s3.endpoint": self.endpoint,
            "s3.access-key-id": ACCESS,
            "s3.secret-access-key": self._secret,
            "s3.region": REGION,
        }

    def bucket(self, name: str) -> Path:
        """Make a bucket; its folder, to look into."""
        path = self._folder / "buckets" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self) -> None:
        """Start, also again after `kill`; nothing happens while it runs. Raises NoS3Server."""
        if self.running:
            return
        buckets, metadata = self._folder / "buckets", self._folder / "metadata"
        for folder in (buckets, metadata):
            folder.mkdir(parents=True, exist_ok=True)
        self._port = self._port or free_port()
        command = [
            str(program()),
            *("--port", f"127.0.0.1:{self._port}", "--region", REGION, "--quiet"),
            *("posix", "--sidecar", str(metadata), str(buckets)),
        ]
        login = {"ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": self._secret}
        with (self._folder / "s3.log").open("ab") as log:
            environment = {**os.environ, **login}
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops it
            )
        wait_until(lambda: self._answers() or not self.running, _START_SECONDS, self.log_end)
        if not self.running:
            raise NoS3Server(f"versitygw ended: {self.log_end()}")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill -9; what was answered is in the folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log_end(self) -> str:
        """The end of its log."""
        return (self._folder / "s3.log").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
