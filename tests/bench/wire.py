"""The port itself.

A result of a million rows, and point lookups against going straight to PostgreSQL.
"""

from __future__ import annotations

import re
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench.figures import Figure, at_least, at_most

REPEATS = 5
ROWS = 1_000_000
LOOKUP_SECONDS = 4


def run() -> list[Figure]:
    """Bulk and lookups."""
    figures: list[Figure] = []
    with PostgresServer(18, settings={"shared_buffers": "512MB"}) as server:
        pgbench = str(server.tool("pgbench"))
        subprocess.run(
            [pgbench, "-i", "-q", "-s", "5", server.dsn()], check=True, capture_output=True
        )
        with server.connect() as admin:
            admin.execute(
                f"""CREATE TABLE bulk AS SELECT g::bigint AS id,
                    now() + g * interval '1 second' AS ts, 'name-' || g AS name,
                    g * 0.37::float8 AS value, (g % 7)::int AS status, g % 2 = 0 AS ok
                    FROM generate_series(1, {ROWS}) g"""
            )
            admin.execute("ALTER TABLE bulk ADD PRIMARY KEY (id)")
            admin.execute("DROP TABLE pgbench_history")
            admin.execute("VACUUM ANALYZE")
        with (
            tempfile.TemporaryDirectory() as folder,
            Stack(Path(folder), {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}) as stack,
        ):
            stack.wait_ready(120)
            figures += [_bulk(server, stack, binary=binary) for binary in (False, True)]
            for mode in ("simple", "prepared"):
                figures += [_lookups(server, stack, pgbench, mode, clients) for clients in (1, 8)]
    return figures


def _bulk(server: PostgresServer, stack: Stack, *, binary: bool) -> Figure:
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(REPEATS):
        theirs.append(_read_all(server.port, "postgres", binary=binary))
        ours.append(_read_all(stack.port, "shop", binary=binary))
    name = f"{ROWS:,} rows to the client, {'binary' if binary else 'text'}"
    return at_most(name, statistics.median(ours), statistics.median(theirs), 1.5, 3.0, "s")


def _read_all(port: int, database: str, *, binary: bool) -> float:
    """Seconds to receive all rows, by a reader that only counts bytes."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        body = (
            struct.pack("!i", 196608) + b"user\0postgres\0database\0" + database.encode() + b"\0\0"
        )
        wire.sendall(struct.pack("!i", len(body) + 4) + body)
        _until_ready(wire)
        if port:
            _simple(wire, b"SET client_min_messages = warning")
        begun = time.perf_counter()
        sql = b"SELECT id, ts, name, value, status, ok FROM bulk"
        formats = struct.pack("!hh", 1, 1) if binary else struct.pack("!h", 0)
        wire.sendall(
            _message(b"P", b"\0" + sql + b"\0\0\0")
            + _message(b"B", b"\0\0\0\0\0\0" + formats)
            + _message(b"E", b"\0\0\0\0\0")
            + _message(b"S", b"")
        )
        size = _until_ready(wire)
        assert size > ROWS * 40, f"only {size} bytes"
        return time.perf_counter() - begun


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _simple(wire: socket.socket, sql: bytes) -> None:
    wire.sendall(_message(b"Q", sql + b"\0"))
    _until_ready(wire)


def _until_ready(wire: socket.socket) -> int:
    """Read to the end of the answer: ReadyForQuery in state idle, which ends what was sent."""
    size, tail = 0, b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        data = wire.recv(1 << 18)
        assert data, "the server closed the connection"
        size += len(data)
        tail = (tail + data)[-6:]
    return size


def _lookups(server: PostgresServer, stack: Stack, pgbench: str, mode: str, clients: int) -> Figure:
    ours: list[float] = []
    theirs: list[float] = []
    for repeat in range(3):
        pair = [(theirs, server.dsn()), (ours, stack.dsn())]
        for rates, dsn in pair if repeat % 2 else reversed(pair):
            rates.append(_tps(pgbench, dsn, mode, clients))
    name = f"point lookups, {mode}, {clients} clients"
    return at_least(name, statistics.median(ours), statistics.median(theirs), 0.5, 0.3, "tps")


def _tps(pgbench: str, dsn: str, mode: str, clients: int) -> float:
    done = subprocess.run(
        [
            pgbench,
            "-n",
            "-S",
            "-M",
            mode,
            "-c",
            str(clients),
            "-j",
            "1",
            "-T",
            str(LOOKUP_SECONDS),
            dsn,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])
