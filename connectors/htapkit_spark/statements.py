"""A Spark for statements, as a program: settings on standard input, statements by a Unix socket.

One connection is one statement. It is stopped in Spark as soon as the other side closes the socket;
the program ends with its standard input. Rows come through Spark Connect, also from a Spark of its
own, since only that streams them as Arrow.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.connect.session import SparkSession

from htapkit_spark.frames import Kind, packed, receive, send

_MEANING: Mapping[str, str] = {
    "spark.sql.ansi.enabled": "true",  # an overflow is an error
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.variable.substitute": "false",
    # Iceberg then answers from rows, and not from what a file says of its least and greatest.
    "spark.sql.iceberg.aggregate-push-down.enabled": "false",
}
"""Settings that give a statement its meaning, whatever the cluster's own are."""


def open_session(settings: Mapping[str, str]) -> SparkSession:
    """A session as the settings say. Raises PySparkException and others of pyspark's."""
    own = {name: value for name, value in settings.items() if name.startswith("spark.")}
    remote = settings.get("remote")
    if remote is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own["spark.connect.grpc.binding.port"] = str(port)
        own["spark.connect.grpc.binding.address"] = "127.0.0.1"
        os.environ["SPARK_LOCAL_REMOTE"] = "1"
        SparkSession._start_connect_server(settings["master"], own)
        remote = f"sc://localhost:{port}"  # by this name alone without TLS, with a token
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    session = SparkSession.builder.remote(remote).appName("htapkit").getOrCreate()
    for name, value in {**own, **_MEANING}.items():
        if name in _MEANING or session.conf.isModifiable(name):
            session.conf.set(name, value)
    return session


def answer(session: SparkSession, connection: socket.socket) -> None:
    """Run the statement that a connection brings, until its end or the other side's."""
    tag = uuid.uuid4().hex
    with connection, suppress(OSError, EOFError):
        _, sql = receive(connection)
        session.addTag(tag)
        threading.Thread(target=_watch, args=(session, connection, tag), daemon=True).start()
        try:
            for batch in _rows(session, sql.decode()):
                send(connection, Kind.BATCH, packed(batch))
            send(connection, Kind.END)
        except OSError:
            raise
        except Exception as problem:  # noqa: BLE001 - gRPC's and others
            send(connection, Kind.FAILED, reason(problem).encode())


def _rows(session: SparkSession, sql: str) -> Iterator[pa.RecordBatch]:
    """The rows as they come: what `toArrow` gathers."""
    frame: Any = session.sql(sql)
    plan = frame._plan.to_proto(session.client)
    for each in session.client.to_table_as_iterator(plan, frame._plan.observations):
        if isinstance(each, pa.Table):
            yield from each.to_batches()


def _watch(session: SparkSession, connection: socket.socket, tag: str) -> None:
    """Stop the statement when nobody waits for it any more."""
    with suppress(OSError):
        connection.recv(1)
    with suppress(Exception):
        session.interruptTag(tag)


def reason(problem: BaseException) -> str:
    """What to tell of an error, in one line."""
    if not isinstance(problem, PySparkException):
        return f"{type(problem).__name__}: {' '.join(str(problem).split())[:2000]}"
    words = " ".join(str(problem).split("\n\nJVM stacktrace", 1)[0].split())
    return words[:2000]


def main() -> int:
    """The program: the first line of its input is the settings and where to listen."""
    asked = json.loads(sys.stdin.readline())
    try:
        session = open_session(asked["settings"])
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the reason
        sys.stderr.write(f"\n{reason(problem)}\n")
        return 1
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(asked["path"])
    listener.listen(128)
    threading.Thread(target=_serve, args=(session, listener), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    return 0


def _serve(session: SparkSession, listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(session, connection), daemon=True).start()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Java, if there is one, ends with our end of its pipe
