"""Exports to a real S3 server: an object is there as a whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.cli.export_parts import PartList, PartsAsked
from htapkit.client import ServerRefused
from htapkit.export import Bucket, ExportFailed
from htapkit.testing.postgres import PostgresServer, free_port
from htapkit.testing.s3 import S3Server
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, mirrored

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(pg18: PostgresServer, s3: S3Server, tmp_path: Path) -> Iterator[Mirrored]:
    """One mirror; its exports go below `s3://reports/daily`."""
    configuration = {
        "exports": {"folder": "s3://reports/daily", "storage": dict(s3.properties)},
        "servers": {"http": {"listen": f"127.0.0.1:{free_port()}"}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, tmp_path, configuration=configuration, start=False) as one,
    ):
        one.run(
            "CREATE TABLE rows (id int PRIMARY KEY, t text)",
            "INSERT INTO rows SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 50000) g",
        )
        one.stack.start()
        one.stack.wait_ready()
        yield one


def test_memory_is_bounded(s3: S3Server, tmp_path: Path) -> None:
    """However large a file is: what waits to be sent is a few parts of it."""
    folder, size = s3.bucket("large"), 400
    place = Bucket("s3://large", dict(s3.properties), tmp_path)
    before, seen, over = pa.total_allocated_bytes(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            seen.append(pa.total_allocated_bytes() - before)

    watching = threading.Thread(target=watch)
    with place.new_file("a.bin") as file:
        for number in range(size):
            file.write(bytes([number % 256]) * (1 << 20))
        watching.start()
    over.set()
    watching.join()
    with (folder / "a.bin").open("rb") as found:
        assert all(found.read(1 << 20) == bytes([n % 256]) * (1 << 20) for n in range(size))
        assert not found.read()
    assert max(seen) < 110 << 20


def test_a_list_of_parts_is_read_again(s3: S3Server, tmp_path: Path) -> None:
    """As it was written last; none is not the same as a server that is away."""
    s3.bucket("parts")
    place = Bucket("s3://parts/daily", dict(s3.properties), tmp_path)
    asked = PartsAsked("shop.public.t", "2026-01-01", "2026-01-03", "day", "csv")
    assert place.read("t/_parts.json") is None
    first = PartList(place, "t", asked)
    first.begin()
    for name in ("2026-01-01.csv", "2026-01-02.csv"):
        first.add(name, {"rows": 1, "bytes": 3, "position": "5"})
    with place.new_file("t/2026-01-01.csv") as file:
        file.write(b"abc")
    again = PartList(place, "t", asked)
    again.begin()
    assert list(again.done) == ["2026-01-01.csv"], "the other one is not there"
    s3.kill()
    with pytest.raises(ExportFailed):
        PartList(place, "t", asked).begin()
    s3.start()  # others have it, too


def export(shop: Mirrored, path: str, sql: str) -> Mapping[str, Any]:
    """Through the API, to its end."""
    with shop.stack.client() as client:
        job = client.export(path, sql=sql, format=path.rpartition(".")[2])
        return client.wait(job["id"], timeout_seconds=JOB_SECONDS)


def test_objects_are_whole(shop: Mirrored, s3: S3Server) -> None:
    """Replaced by a later export; what fails changes nothing, and leaves nothing here."""
    bucket = s3.bucket("reports")
    rows = "SELECT id, t FROM rows ORDER BY id"
    done = export(shop, "a/rows.parquet", rows)
    path = bucket / "daily" / "a" / "rows.parquet"
    assert (done["rows"], done["bytes"]) == (50_000, path.stat().st_size)
    assert pq.read_table(path).column("id").to_pylist() == list(range(1, 50_001))
    assert export(shop, "b.csv", "SELECT 1 AS one")["rows"] == 1
    assert (bucket / "daily" / "b.csv").read_text() == '"one"\n"1"\n'
    for sql in ("SELECT id / (id - 40000) FROM rows", "SELECT nothing FROM rows"):
        with pytest.raises(ServerRefused):
            export(shop, "b.csv", sql)
    with pytest.raises(ServerRefused, match="expected the name of a file"):
        export(shop, "../b.csv", "SELECT 1")
    s3.kill()
    with pytest.raises(ServerRefused, match=r"exports\.folder: b\.csv: "):
        export(shop, "b.csv", "SELECT 2 AS two")
    s3.start()
    assert (bucket / "daily" / "b.csv").read_text() == '"one"\n"1"\n'
    assert export(shop, "b.csv", "SELECT 2 AS two")["started_anew"] is False
    assert (bucket / "daily" / "b.csv").read_text() == '"two"\n"2"\n'
    left = [p for p in (shop.stack.folder / "data" / "exports").rglob("*") if p.is_file()]
    assert not left
