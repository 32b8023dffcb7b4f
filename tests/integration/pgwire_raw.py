"""A bare client of the wire protocol for tests: sends bytes, gives back whole messages."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

INT = struct.Struct("!i")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message."""
    return kind + INT.pack(len(body) + 4) + body


class RawClient:
    """A logged-in connection without any driver."""

    def __init__(
        self, port: int, database: str, user: str = "postgres", timeout: float = 60.0, **more: str
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(timeout)
        self._file = self.socket.makefile("rb")
        pairs = {"user": user, "database": database, **more}
        body = INT.pack(196608) + b"".join(
            f"{name}\0{value}\0".encode() for name, value in pairs.items()
        )
        self.socket.sendall(INT.pack(len(body) + 5) + body + b"\0")
        self.startup = self.until(1)

    def one(self) -> bytes:
        """The next message: type and body."""
        head = self._file.read(5)
        if len(head) < 5:
            raise ConnectionError("closed")
        return head[:1] + self._file.read(INT.unpack(head[1:])[0] - 4)

    def until(self, ready: int) -> list[bytes]:
        """All messages up to that many ReadyForQuery."""
        found = []
        while ready:
            found.append(self.one())
            if found[-1][:1] == b"E" and b"SFATAL\0" in found[-1]:
                return found
            ready -= found[-1][:1] == b"Z"
        return found

    def query(self, text: str) -> list[bytes]:
        """A simple Query."""
        self.socket.sendall(message(b"Q", text.encode() + b"\0"))
        return self.until(1)

    def close(self) -> None:
        """Without Terminate."""
        self._file.close()
        self.socket.close()


HOT, FINISH = b"/*hot*/ ", b"/*finish*/ "
STATEMENTS = [
    HOT + b"select 1 as a",
    HOT + b"select g, g*2 as h from generate_series(1,5) g",
    HOT + b"select $1::int + 1 as x",
    HOT + b"select count(*) from fz",
    HOT + b"select 1/$1::int",
    HOT + b"select nope",
    HOT + b"select id, v from fz order by id limit 3",
    HOT + b"select id from fz where id = $1",
    HOT + b"/*broken*/ select 7 as seven",
    HOT + b"select g from generate_series(1,2500) g",
    FINISH + b"select g, g::text as t from generate_series(1,4) g",
    FINISH + b"select g from generate_series(1,200) g",
    b"select 1 as a",
    b"insert into fz values (1,$$a$$)",
    b"select $1::text",
    b"select count(*) from fz",
    b"select 1/0",
    b"selekt",
    b"delete from fz where id=1",
    b"select g from generate_series(1,4) g",
    b"",
    b"begin",
    b"commit",
    b"copy fz from stdin",
    b"set timezone = 'Asia/Tokyo'",
]
QUERIES = [
    *STATEMENTS[:2],
    STATEMENTS[3],
    STATEMENTS[6],
    STATEMENTS[8],
    STATEMENTS[10],
    STATEMENTS[11],
    HOT + b"select 1/0",
    HOT + b"select nope2",
    b"begin",
    b"begin",
    b"commit",
    b"rollback",
    b"begin isolation level repeatable read",
    b"insert into fz values (2,$$b$$)",
    b"select 1; select 2",
    HOT + b"select 1; select 3",
    b"insert into fz values (3,$$c$$); select 1/0",
    b"",
    b"set timezone = 'Asia/Tokyo'",
    b"set datestyle = 'German'",
    b"reset all",
    b"deallocate all",
    b"discard all",
    b"copy fz from stdin",
    b"copy (select 1) to stdout",
    b"savepoint a",
    b"rollback to a",
    b"create temp table fz (id int, v text)",
    b"drop table if exists pg_temp.fz",
    b"do $$begin raise notice $x$hi$x$; end$$",
    HOT + b"select now() - now() = interval '0' as b, date '2024-02-03' as d",
]
SHORT = [
    HOT + b"select 1 as a",
    *[b"select 1 as a", b"select id, v from fz where id = 2", b"select count(*) from fz"] * 3,
    b"select 1/0 as never",
    b"select repeat('x', 300000) as long",
    b"begin",
    *[b"commit"] * 4,
]
PREPARED = [
    *[b"select $1::text as t", b"select v from fz where id = $1", b"select count(*) from fz"] * 2,
    HOT + b"select $1::int + 1 as x",
    b"insert into fz values (1,$$a$$)",
]
"""For sessions of mostly short reads that are relayed."""

COPY = b"copy fz from stdin"
ROWS = message(b"d", b"7\tx\n") + message(b"c")


@dataclass
class Batches:
    """Random batches; the same seed gives the same ones.

    Never an Execute of an old portal in an aborted transaction: batches with one made PostgreSQL
    18.4 crash without us in between, and with it all its sessions. Run this on a private server
    only.
    """

    rng: random.Random
    statements: Sequence[bytes] = tuple(STATEMENTS)
    queries: Sequence[bytes] = tuple(QUERIES)
    lookups: float = 0.1
    aborted: bool = False
    parameters: dict[bytes, int] = field(default_factory=dict)
    copies: bool = False  # some statement of the session is a COPY FROM STDIN

    def new_session(self) -> None:
        """What was prepared is gone."""
        self.parameters.clear()
        self.copies = False

    def next(self) -> tuple[bytes, int, list[object]]:
        """(bytes, how many ReadyForQuery come, a description)."""
        if self.rng.random() < 0.35:
            text = self.rng.choice(self.queries)
            sent = message(b"Q", text + b"\0")
            if text == COPY:
                sent += ROWS
            return sent, 1, [text]
        sent = b""
        said: list[object] = []
        if self.rng.random() < self.lookups:
            return self._lookup(), 1, ["lookup"]
        for _ in range(self.rng.randint(1, 7)):
            piece = self._piece(said)
            sent += piece
        said.append(b"S")
        return sent + message(b"S"), said.count(b"S"), said

    def _lookup(self) -> bytes:
        """A prepared statement executed to its end and nothing else, as drivers do it."""
        name = self.rng.choice([b"", b"s1", b"s2"])
        count = self.parameters.get(name, 0)
        head = b"\0" + name + b"\0" + struct.pack("!hh", 0, count)
        sent = message(b"B", head + (INT.pack(1) + b"5") * count + b"\0\0")
        sent += message(b"D", b"P\0") if self.rng.random() < 0.7 else b""
        return sent + message(b"E", b"\0" + INT.pack(0)) + message(b"S")

    def _execute(self, portal: bytes, limit: int) -> bytes:
        """With rows for a COPY, which would wait for them; they are ignored where there is none."""
        sent = message(b"E", portal + b"\0" + INT.pack(limit))
        return sent + ROWS if self.copies else sent

    def _piece(self, said: list[object]) -> bytes:
        rng = self.rng
        name, portal = rng.choice([b"", b"", b"s1", b"s2"]), rng.choice([b"", b"", b"p1"])
        dice = rng.random()
        if dice < 0.6:
            return self._statement(name, portal, said)
        if dice < 0.7:
            said.append((b"DS", name))
            return message(b"D", b"S" + name + b"\0")
        if dice < 0.76:
            of = rng.choice([b"S", b"P"])
            said.append((b"C", of, name))
            return message(b"C", of + name + b"\0")
        if dice < 0.82 and not self.aborted:
            limit = rng.choice([0, 2])
            said.append((b"E", portal, limit))
            return self._execute(portal, limit)
        if dice < 0.92:
            said.append(b"H")
            return message(b"H")
        said.append(b"S")
        return message(b"S")

    def _statement(self, name: bytes, portal: bytes, said: list[object]) -> bytes:
        rng = self.rng
        text = rng.choice(self.statements)
        sent = b""
        if rng.random() < 0.6:
            declared = b"\0\1\0\0\0\x17" if b"$1::int" in text and rng.random() < 0.5 else b"\0\0"
            sent += message(b"P", name + b"\0" + text + b"\0" + declared)
            said.append((b"P", name, text))
            self.parameters[name] = 1 if b"$1" in text else 0
            self.copies |= text == COPY
        count = self.parameters.get(name, 0)
        value = rng.choice([b"0", b"5", b"zz"]) if rng.random() < 0.3 else b"5"
        binary = rng.choice([b"\0\0", b"\0\0", b"\0\1\0\1"])
        values = (INT.pack(len(value)) + value) * count
        head = portal + b"\0" + name + b"\0" + struct.pack("!hh", 0, count)
        sent += message(b"B", head + values + binary)
        said.append((b"B", portal, name, value))
        if rng.random() < 0.7:
            sent += message(b"D", b"P" + portal + b"\0")
            said.append((b"DP", portal))
        limit = rng.choice([0, 0, 2])
        for each in [limit, 0] if limit and rng.random() < 0.7 else [limit]:
            sent += self._execute(portal, each)
            said.append((b"E", portal, each))
        if rng.random() < 0.2:
            sent += message(b"C", b"P" + portal + b"\0")
            said.append((b"CP", portal))
        return sent


def comparable(found: bytes) -> bytes:
    """Without what two databases may differ in: places in the source's code, OIDs of tables."""
    if found[:1] in {b"E", b"N"}:
        kept = [part for part in found[1:].split(b"\0") if part[:1] in {b"C", b"M", b"S", b"P"}]
        return found[:1] + b"|".join(kept)
    if found[:1] != b"T":
        return found
    position, masked = 3, found[:3]
    for _ in range(struct.unpack_from("!h", found, 1)[0]):
        end = found.index(b"\0", position)
        masked += found[position : end + 1] + bytes(4) + found[end + 5 : end + 19]
        position = end + 19
    return masked


def _first_difference(source: list[bytes], ours: list[bytes]) -> str:
    same = 0
    while same < min(len(source), len(ours)) and source[same] == ours[same]:
        same += 1
    return (
        f"  after {same} equal messages\n  source {source[same:][:9]}\n  ours   {ours[same:][:9]}"
    )


SETUP = """drop table if exists fz; create table fz (id int, v text);
insert into fz select g, 'q' from generate_series(1, 3) g"""


def fresh_tables(places: Sequence[tuple[int, str]]) -> None:
    """The tables as they are at the beginning, in these databases."""
    for port, name in places:
        helper = RawClient(port, name)
        helper.query(SETUP)
        helper.close()


def compare(
    direct: tuple[int, str],
    ours: tuple[int, str],
    batches: int,
    made: Batches,
    reset: Callable[[], None],
    session_batches: int = 40,
) -> tuple[int, list[str]]:
    """Send the same random batches both ways: (messages compared, differences)."""
    clients: list[RawClient] = []
    differences: list[str] = []
    count = 0
    for number in range(batches):
        if number % session_batches == 0 or not clients:
            for client in clients:
                client.close()
            made.new_session()
            reset()
            clients = [RawClient(*direct), RawClient(*ours)]
        sent, ready, said = made.next()
        answers = []
        for client in clients:
            client.socket.sendall(sent)
            try:
                answers.append([comparable(each) for each in client.until(ready)])
            except OSError as error:
                answers.append([repr(error).encode()])
        count += len(answers[0])
        made.aborted = answers[0][-1] == b"ZE"
        if answers[0] != answers[1]:
            differences.append(f"batch {number}: {said}\n{_first_difference(*answers)}")
        if answers[0] != answers[1] or answers[0][-1][:1] != b"Z":
            for client in clients:
                client.close()
            clients = []
    for client in clients:
        client.close()
    return count, differences
