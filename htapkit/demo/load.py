"""The shop's customers: a process of its own that buys, pays, looks around and changes its mind.

`python -m htapkit.demo.load RATE DSN` works until its input ends. It understands the lines `pause`
and `resume`, and writes one line of JSON when it was told so and every half second.
With `RATE ADDRESS NAME` it is the clients of the second source of that name (`second.py`).
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg

from htapkit.demo.second import find_second
from htapkit.sqlfiles import sql
from htapkit.testing.postgres import Connection

CONNECTIONS = 8
REPORT_SECONDS = 0.5
BEHIND_SECONDS_MAX = 0.5
REFUSED = ""  # the kind of what came to nothing

Act = Callable[[], str]  # make one transaction; its kind
Connect = Callable[[int], AbstractContextManager[Act]]  # by the connection's number


@dataclass(slots=True)
class Tally:
    """What was committed so far; one for each connection, so that nobody waits for a lock."""

    transactions: int = 0
    refused: int = 0
    ms: deque[tuple[str, float]] = field(default_factory=deque)  # since the last report: kind, ms


class Customer:
    """One connection's transactions, drawn at random."""

    def __init__(self, connection: Connection, seed: int, customers: int, products: int) -> None:
        """`customers` and `products` are the highest ids to draw from."""
        self._connection = connection
        self._random = random.Random(seed)  # noqa: S311 - a shop, no secret
        self._customers = customers
        self._products = products
        self._kinds: Mapping[str, tuple[int, Callable[[], None]]] = {
            "visit": (30, self._visit),
            "order": (30, self._order),
            "pay": (28, self._pay),
            "move": (5, self._move),
            "price": (4, self._price),
            "cancel": (3, self._cancel),
        }
        self._weights = [weight for weight, _ in self._kinds.values()]

    def act(self) -> str:
        """Make one transaction; its kind."""
        kind = self._random.choices(list(self._kinds), self._weights)[0]
        try:
            self._kinds[kind][1]()
        except (psycopg.errors.DeadlockDetected, psycopg.errors.IntegrityError):
            return REFUSED
        return kind

    def _execute(self, name: str, **values: object) -> None:
        self._connection.execute(sql(f"demo/{name}"), values)

    def _someone(self) -> int:
        return 1 + int(self._customers * self._random.random() ** 2)

    def _something(self) -> int:
        return self._random.randint(1, self._products)

    def _visit(self, *kinds: str) -> None:
        looked = ["view", "search", "cart", "checkout"][: self._random.randint(1, 4)]
        self._execute(
            "load_events",
            customer=self._someone(),
            kinds=list(kinds) or looked,
            device=self._random.choice(["desktop", "phone", "tablet"]),
            product=self._something(),
            duration=self._random.randint(10, 60_000),
        )

    def _order(self) -> None:
        # Two statements and four tables: either all of it is in the copy, or nothing.
        with self._connection.pipeline(), self._connection.transaction():
            self._execute(
                "load_order",
                customer=self._someone(),
                channel=self._random.choice(["web", "app", "phone", "partner"]),
                method=self._random.choice(["card", "invoice", "transfer", "wallet"]),
                products=[self._something() for _ in range(self._random.randint(1, 3))],
                quantity=self._random.randint(1, 3),
            )
            self._visit("purchase")

    def _pay(self) -> None:
        self._execute("load_pay", status="failed" if self._random.random() < 0.05 else "captured")

    def _move(self) -> None:
        self._execute(
            "load_move", customer=self._someone(), city=f"City {self._random.randint(1, 400)}"
        )

    def _price(self) -> None:
        step = self._random.randint(-300, 300) / 100
        campaign = f"campaign {self._random.randint(1, 40)}"
        self._execute(
            "load_price", product=self._something(), step=f"{step:.2f}", campaign=campaign
        )

    def _cancel(self) -> None:
        self._execute("load_cancel", customer=self._someone())


@contextmanager
def connect_customer(dsn: str, number: int) -> Iterator[Act]:
    """One connection of the shop's customers."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "select (select max(id) from customers), (select max(id) from products)"
        ).fetchone()
        assert row is not None
        yield Customer(connection, number, *row).act


class Crowd:
    """All customers, at a common rate."""

    def __init__(self, connect: Connect, rate: float) -> None:
        """Connect nobody yet."""
        self._connect = connect
        self._rate = rate
        self._running = threading.Event()
        self._ended = threading.Event()
        self._idle = threading.Semaphore(0)
        self._printing = threading.Lock()
        self._tallies = [Tally() for _ in range(CONNECTIONS)]

    def run(self) -> None:
        """Work as the input says, until it ends."""
        self._running.set()
        threads = [
            threading.Thread(target=self._work, args=(number,)) for number in range(CONNECTIONS)
        ]
        threads.append(threading.Thread(target=self._report, daemon=True))
        for thread in threads:
            thread.start()
        for line in sys.stdin:
            if line.strip() == "pause":
                self._running.clear()
                for _ in range(CONNECTIONS):
                    self._idle.acquire()
                self._say(paused=True)
            elif line.strip() == "resume":
                self._running.set()
                self._say(paused=False)
        self._ended.set()
        self._running.set()
        for thread in threads[:CONNECTIONS]:
            thread.join()

    def _work(self, number: int) -> None:
        tally = self._tallies[number]
        with self._connect(number) as act:
            due = time.monotonic()
            while not self._ended.is_set():
                if not self._running.is_set():
                    self._idle.release()
                    self._running.wait()
                    due = time.monotonic()
                    continue
                self._one(act, tally)
                due += CONNECTIONS / self._rate
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                elif wait < -BEHIND_SECONDS_MAX:
                    due = time.monotonic()  # what could not be done in time is not made up for

    def _one(self, act: Act, tally: Tally) -> None:
        began = time.perf_counter()
        kind = act()
        if kind == REFUSED:
            tally.refused += 1
            return
        tally.transactions += 1
        tally.ms.append((kind, (time.perf_counter() - began) * 1000))

    def _report(self) -> None:
        while not self._ended.wait(REPORT_SECONDS):
            self._say()

    def _say(self, **more: object) -> None:
        with self._printing:
            ms = defaultdict(list)
            for tally in self._tallies:
                for _ in range(len(tally.ms)):
                    kind, each = tally.ms.popleft()
                    ms[kind].append(round(each, 2))
            total = sum(tally.transactions for tally in self._tallies)
            refused = sum(tally.refused for tally in self._tallies)
            line = json.dumps({"transactions": total, "refused": refused, "ms": ms, **more})
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def main(rate: str, address: str, name: str = "") -> None:
    """The process."""
    connect = partial(find_second(name).client if name else connect_customer, address)
    Crowd(connect, float(rate)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
