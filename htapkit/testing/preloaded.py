"""`htapkit serve` without its start-up time: forked from a process with all modules in memory.

For tests that start a server hundreds of times. It is the same command in a process of its own;
only the imports are already done. Never for measuring anything.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_MODULES = ["htapkit.cli.run", "htapkit_postgres"]


class PreloadedServer:
    """A running child, with the part of subprocess.Popen's interface that `Stack` uses."""

    def __init__(
        self, config_path: Path, folder: Path, log_path: Path, environment: Mapping[str, str]
    ) -> None:
        """Start it; its output goes to the end of `log_path`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_MODULES)
        self._process = context.Process(
            target=_serve,
            args=(str(config_path), str(folder), str(log_path), dict(environment)),
            daemon=True,
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the child."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status once it ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("htapkit serve", timeout or 0.0)
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()


def _serve(config_path: str, folder: str, log_path: str, environment: Mapping[str, str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["htapkit", "serve", "--config", config_path]
    runpy.run_module("htapkit", run_name="__main__")
