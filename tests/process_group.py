"""A program that starts others, as a group of processes that ends as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from htapkit.testing.stack import StackFailed, wait_until

STOP_SECONDS_MAX = 30.0


class ProcessGroup(ABC):
    """Runs while it is a context; then every process of it is gone."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        start_seconds_max: float,
    ) -> None:
        """It works in the folder of its log. Nothing runs before the context."""
        self._command = command
        self._environment = environment
        self._log = log
        self._start_seconds_max = start_seconds_max
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def healthy(self) -> bool:
        """Whether it works now."""

    def __enter__(self) -> Self:
        """Start, and wait until it works. Raises StackFailed."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: self._ended() or self.healthy(), self._start_seconds_max, self.log_end
            )
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _ended(self) -> bool:
        """False, or raises StackFailed."""
        if self._process is not None and self._process.poll() is None:
            return False
        raise StackFailed(f"{self._command} ended: {self.log_end()}")

    def log_end(self) -> str:
        """The end of what all its processes printed."""
        return self._log.read_text(errors="replace")[-6000:]

    def stop(self) -> None:
        """End the process and all its children."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
