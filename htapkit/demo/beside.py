"""The second source while the demo is live: started beside the shop, loaded, asked, compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from htapkit.demo.customers import Load
from htapkit.demo.latency import Waited
from htapkit.demo.options import DemoOptions
from htapkit.demo.questions import Comparison
from htapkit.demo.second import Copy, SecondSource, compare_sources, find_second, registered
from htapkit.testing.postgres import free_port

ROWS = 50_000  # at scale 1
ENTITIES_MAX = 1_000
CUSTOMERS = 40_000  # of the shop, at scale 1
RATE_SHARE = 0.5  # of the shop's transactions per second
KINDS = ("read", "write")
LAST = 500  # operations of a kind: some seconds


@dataclass(slots=True)
class Beside:
    """The second source, with the load on it."""

    source: SecondSource
    entities: int
    load: Load
    measured: list[tuple[str, dict[str, Waited | None]]] = field(default_factory=list)

    def figures(self) -> str:
        """Of the last seconds, for people."""
        name = f"{self.source.database} {self.load.rate():,.0f} operations/s"
        waits = [
            f"{kind}s {each.p50_ms:,.1f}/{each.p99_ms:,.1f}"
            for kind in KINDS
            if (each := self.load.latencies.of(kind, LAST))
        ]
        return f"{name}, p50/p99 {', '.join(waits)} ms" if waits else name

    def measure(self, while_what: str) -> None:
        """Keep how long the server's clients waited since the last call, by this name."""
        found = {kind: self.load.latencies.of(kind) for kind in KINDS}
        self.measured.append((while_what, found))
        self.load.latencies.restart()

    def compare(self, shop_dsn: str, copy_dsn: str) -> Iterator[Comparison]:
        """Sources and copy; nothing may be written meanwhile."""
        return compare_sources(self.source.questions(self.entities), shop_dsn, copy_dsn)


@contextmanager
def starting(directory: Path, console: Console) -> Iterator[tuple[str, SecondSource]]:
    """The connector's name, and the server, which has begun to start; ended with the block."""
    name = registered()
    source = find_second(name)(directory / name, free_port)
    try:
        with console.status(f"starting {source.starting}"):
            source.start()
        yield name, source
    finally:
        source.stop()


@contextmanager
def live(
    name: str, source: SecondSource, options: DemoOptions, directory: Path, console: Console
) -> Iterator[Beside]:
    """Filled, and written and read by its clients."""
    entities = max(1, min(ENTITIES_MAX, int(CUSTOMERS * options.rows_scale)))
    began = time.monotonic()
    with console.status(f"waiting for {source.title}, and filling it"):
        said = source.fill(int(ROWS * options.rows_scale), entities)
    seconds = time.monotonic() - began
    console.print(f"{said}, ready {seconds:.1f} s later", highlight=False, soft_wrap=True)
    rate = options.rate * RATE_SHARE
    with Load(source.address(entities), rate, directory, name) as load:
        yield Beside(source, entities, load)


def ask_live(beside: Beside, copy_dsn: str, look: Callable[[], object], seconds: float) -> int:
    """Ask the copy everything, again and again, while everybody works; how many statements."""
    questions = beside.source.questions(beside.entities)
    end = time.monotonic() + seconds
    answered = 0
    with Copy(copy_dsn) as copy:
        while answered == 0 or time.monotonic() < end:
            for question in questions:
                copy.ask(question)
                answered += len(question.statements)
                look()
    return answered
