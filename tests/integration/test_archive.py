"""`on_delete: keep`: what PostgreSQL deletes is in the archive once, and nowhere else.

A trigger at the source writes each deleted row down, with the time that its transaction took: what
the archive has is compared with that.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from htapkit.client import ServerRefused
from htapkit.testing.postgres import PostgresServer
from tests.fix_archive import agrees, archived, keeping, make, rows_at
from tests.fix_kills import ask_for_copy
from tests.fix_mirror import JOB_SECONDS, Mirrored

pytestmark = pytest.mark.integration

TABLES = ("plain", "lake", "whole", "renamed", "retyped", "secret", "off", "killed")
CONFIGURATION = {
    "tables": {f"shop.public.{table}": {"on_delete": "keep"} for table in TABLES},
    "lake": {"interval": "1 hour"},
    "limits": {"batch_rows": 100},  # so that a transaction can be larger than that
}
KILLS = (
    "apply.written",
    "apply.committed",
    "chunk.written",
    "copy.loaded",
    "copy.replayed",
    "copy.swapped",
)


@pytest.fixture(scope="module")
def kept(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of the module."""
    with keeping(pg, tmp_path_factory.mktemp("archive"), CONFIGURATION) as one:
        yield one


def test_what_is_deleted_is_archived_with_its_time_and_the_table_is_as_ever(
    kept: Mirrored,
) -> None:
    make(kept, "plain")
    kept.transaction("delete from plain where id <= 150", "delete from plain where id = 200")
    kept.transaction(
        "update plain set n = -1 where id = 201",
        "update plain set id = 1000 where id = 201",
        "delete from plain where id = 1000",
        "insert into plain values (1, now(), 1, 'again')",
        "delete from plain where id = 1",
        "insert into plain values (1, now(), 2, 'and again')",
    )
    assert agrees(kept, "plain") == 153
    kept.verified("plain")
    with kept.database.connect() as source, kept.port() as port:
        # `now()` is when a transaction began; it is committed later.
        times = rows_at(
            port, "select id, v, htapkit_deleted_at from archive.public.plain order by 3"
        )
        began = dict(rows_at(source, "select id || v, deleted from noted.plain"))
        assert len({time for _, _, time in times}) == 2
        for number, value, time in times:
            late = (time - began[f"{number}{value}"]).total_seconds()
            assert 0 <= late < 120, (number, late)
        assert rows_at(port, "select count(*) from plain") == [(149,)]
        joined = (
            "select count(*) from archive.public.plain a join plain p using (id) "
            "where a.htapkit_deleted_at is not null"
        )
        assert rows_at(port, joined) == [(2,)]
    table = kept.table("plain")
    assert (table["on_delete"], table["archive_why"]) == ("keep", "")
    assert table["archived_rows"] is not None


def test_a_new_copy_and_a_truncate_archive_each_row_once(kept: Mirrored) -> None:
    make(kept, "lake")
    with kept.stack.client() as client:
        job = client.tier(["shop.public.lake"], "1 s")
        client.wait(job["id"], timeout_seconds=JOB_SECONDS)
        kept.run("delete from lake where id in (3, 299)", "update lake set n = 0 where id = 6")
        client.table_action("resync", "shop.public.lake")
    # Until it is copied, and in between.
    for number in range(10, 60):
        kept.run(f"delete from lake where id = {number}")
    kept.is_copied("lake", 2)
    with kept.database.connect() as source:
        source.execute("insert into noted.lake select *, now() from lake")
        source.execute("truncate lake")
    kept.follows("lake")
    assert agrees(kept, "lake") == 300
    assert None not in {time for (time,) in archived(kept, "lake", "htapkit_deleted_at")}


def test_rows_without_a_key_are_archived_whole(kept: Mirrored) -> None:
    kept.make(
        "whole",
        "create table whole (a int, v text)",
        "alter table whole replica identity full",
        "insert into whole values (1, 'x'), (1, 'x'), (2, null)",
    )
    kept.run("delete from whole where a = 1", "update whole set v = 'y'", "delete from whole")
    found = archived(kept, "whole", "a, v")
    assert Counter(found) == Counter([(1, "x"), (1, "x"), (2, "y")])


@pytest.mark.long
def test_columns_that_come_go_and_change_their_type(kept: Mirrored) -> None:
    make(kept, "renamed", 30)
    kept.run(
        "drop trigger note on renamed",
        "delete from renamed where id = 1",
        "alter table renamed add w int",
        "alter table renamed rename n to m",
        "update renamed set w = 7",
        "delete from renamed where id = 2",
    )
    kept.settles("renamed")  # the catalog may be seen ahead of the rows, and then `v` is gone
    kept.run("alter table renamed drop v", "delete from renamed where id = 4")
    kept.settles("renamed")
    found = archived(kept, "renamed", "id, m, w, v")
    assert [(i, float(m), w, v) for i, m, w, v in found] == [
        (1, 0.25, None, "v1"),
        (2, 0.5, 7, "v2"),
        (4, 1.0, 7, None),
    ]
    make(kept, "retyped", 30)
    kept.run("drop trigger note on retyped", "delete from retyped where id = 1")
    kept.run("alter table retyped alter n type text using 'n' || n")
    kept.is_copied("retyped", 2)
    kept.settles("retyped")
    kept.run("delete from retyped where id = 2")
    found = archived(kept, "retyped", "id, n, n_numeric")
    assert [(i, n, m and float(m)) for i, n, m in found] == [
        (1, None, 0.25),
        (2, "n0.50", None),
    ]


def test_rights_are_those_of_the_table(kept: Mirrored) -> None:
    make(kept, "secret", 10)
    kept.run(
        "create role clerk login",
        "grant select (id, at, n) on secret to clerk",
        "delete from secret where id < 4",
    )
    try:
        assert len(archived(kept, "secret")) == 3
        with kept.port("auto") as port:
            port.execute("set role clerk")
            allowed = "select id, htapkit_deleted_at from archive.public.secret"
            assert len(rows_at(port, allowed)) == 3
            for columns in ("v", "*"):
                with pytest.raises(psycopg.Error, match="permission denied for column v"):
                    port.execute(f"select {columns} from archive.public.secret")
        kept.run("alter table secret drop v")
        kept.settles("secret")
        with kept.port("auto") as port:
            port.execute("set role clerk")
            # Who may read all that is left may read what is gone.
            assert len(rows_at(port, "select v from archive.public.secret")) == 3
        with kept.port("auto") as port:
            for name in ("nothing", "noted"):
                with pytest.raises(psycopg.Error, match="has no archive"):
                    port.execute(f"select * from archive.public.{name}")
    finally:
        kept.run("drop owned by clerk", "drop role clerk")


def test_turned_off_erased_and_turned_on_again(kept: Mirrored) -> None:
    make(kept, "off", 30)
    kept.run("delete from off where id <= 10")
    assert agrees(kept, "off") == 10
    reload(kept, "off", "delete")
    kept.run("delete from off where id = 11")
    kept.equal("off")
    assert len(archived(kept, "off")) == 10
    assert kept.table("off")["on_delete"] == "delete"
    reload(kept, "off", "keep")
    kept.run("delete from off where id = 12")
    assert sorted(archived(kept, "off", "id")) == [*((n,) for n in range(1, 11)), (12,)]
    with kept.stack.client() as client:
        job = client.erase("shop.public.off", "id >= 9")
        with pytest.raises(ServerRefused, match="still at the source"):
            client.wait(job["id"], timeout_seconds=JOB_SECONDS)
        job = client.erase("shop.public.off", "id < 9 AND off.n IS NOT NULL")
        assert client.wait(job["id"], timeout_seconds=JOB_SECONDS)["archived"] == 8
    assert sorted(archived(kept, "off", "id")) == [(9,), (10,), (12,)]
    kept.run("delete from off where id = 13")
    assert archived(kept, "off", "id")[-1] == (13,)
    kept.verified("off")


def reload(mirror: Mirrored, table: str, on_delete: str) -> None:
    path = mirror.stack.config_path
    document = yaml.safe_load(path.read_text())
    document["tables"][f"shop.public.{table}"]["on_delete"] = on_delete
    path.write_text(yaml.safe_dump(document))
    with mirror.stack.client() as client:
        assert client.reload()["tables"] == [f"shop.public.{table}"]


@pytest.mark.long
def test_kills_while_rows_are_deleted(pg: PostgresServer, tmp_path: Path) -> None:
    """Whatever it died of, each deletion is there once."""
    with keeping(pg, tmp_path, CONFIGURATION, preloaded=True) as kept:
        make(kept, "killed", 3000)
        for number, name in enumerate(KILLS):
            kept.stack.stop()
            kept.stack.start({"HTAPKIT_FAILPOINT": f"{name}:1"})
            if name.startswith("copy."):
                ask_for_copy(kept.stack, "shop.public.killed")
            first, last = 200 * number + 1, 200 * number + 200
            kept.run(
                f"delete from killed where id between {first} and {last - 20}",
                f"update killed set v = v || 'x', n = 1 where id between {last - 20} and {last}",
                f"delete from killed where id between {last - 19} and {last - 10}",
            )
            assert kept.stack.wait_ended(60) == -signal.SIGKILL, (name, kept.stack.log_end())
            kept.run(f"delete from killed where id between {last - 9} and {last}")
            kept.stack.start()
            kept.follows("killed")
            assert agrees(kept, "killed") == last, name
        times = archived(kept, "killed", "htapkit_deleted_at")
        assert (None,) not in times
        kept.verified("killed")
