"""The process of a source's clients, seen from the demo: counted, paused, and ended with it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from htapkit.demo.latency import Latencies
from htapkit.errors import HtapkitError
from htapkit.testing.guard import child_environment

REPORTS_KEPT = 7  # three seconds
STOP_SECONDS_MAX = 20.0
ANSWER_SECONDS_MAX = 30.0


class DemoFailed(HtapkitError):
    """A part of the demo did not do its work; the message ends with what it logged last."""


class Load:
    """The process of the shop's customers, or of the clients of the second source `name`."""

    def __init__(self, address: str, rate: float, directory: Path, name: str = "") -> None:
        """Start it; it works at once."""
        self.transactions = 0
        self.latencies = Latencies()
        self._reports: deque[tuple[float, int]] = deque(maxlen=REPORTS_KEPT)
        self._worked_seconds = 0.0
        self._worked = 0
        self._answers: queue.Queue[bool] = queue.Queue()
        self._log = (directory / f"load{name and '-'}{name}.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "htapkit.demo.load", str(rate), address, *filter(None, [name])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=directory,
            env=child_environment(),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Load:
        """The load."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it: the end of its input tells it so."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()

    def pause(self) -> None:
        """Returns when the last transaction is through."""
        self._tell("pause")

    def resume(self) -> None:
        """Go on."""
        self._tell("resume")

    def rate(self) -> float:
        """Transactions per second in the last seconds."""
        reports = list(self._reports)
        if len(reports) < 2:
            return 0.0
        (first, before), (last, after) = reports[0], reports[-1]
        return (after - before) / max(last - first, 0.001)

    def average(self) -> float:
        """Transactions per second while it was not paused."""
        return self._worked / max(self._worked_seconds, 0.001)

    def _count(self, now: float, transactions: int) -> None:
        if self._reports and transactions > self.transactions:
            self._worked_seconds += now - self._reports[-1][0]
            self._worked += transactions - self.transactions
        self._reports.append((now, transactions))
        self.transactions = transactions

    def _tell(self, word: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{word}\n")
            stdin.flush()
            self._answers.get(timeout=ANSWER_SECONDS_MAX)
        except (OSError, queue.Empty) as error:
            said = Path(self._log.name).read_text()[-2000:]
            raise DemoFailed(f"the load generator does not answer:\n{said}") from error

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            found = json.loads(line)
            self._count(time.monotonic(), found["transactions"])
            self.latencies.add(found["ms"])
            if "paused" in found:
                self._answers.put(found["paused"])
