"""What events look like, and which there are."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from tests.fix_sink import Fed
from tests.kafka.replay import committed, replay

pytestmark = [pytest.mark.kafka, pytest.mark.integration]

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE typed (
    id int, part text, n numeric(12,4), big numeric, f4 float4, f8 float8, b bool, d date,
    t time, ts timestamp, tz timestamptz, bin bytea, u uuid, j jsonb, a int[], m mood,
    PRIMARY KEY (part, id));
INSERT INTO typed VALUES
    (1, 'é"', 12.5, 1e20, 0.1, 0.1, true, '2026-02-03', '12:30:00.25', '2026-02-03 04:05:06.789',
     '2026-02-03 04:05:06.7+02', '\\x00ff', '6d0a4ee4-4f5b-4f0e-8d4c-1c1f6b8a9d11', '{"k": [1]}',
     '{1,2}', 'ok'),
    (2, '', -0.0001, 'NaN', 'NaN', '-Infinity', false, '0044-03-15 BC', '24:00', 'infinity',
     '0044-03-15 00:00:00+00 BC', '', NULL, NULL, '{}', NULL);
"""
FIRST = {
    "id": 1,
    "part": 'é"',
    "n": "12.5000",
    "big": "100000000000000000000",
    "f4": 0.1,
    "f8": 0.1,
    "b": True,
    "d": 20487,
    "t": 45_000_250_000,
    "ts": 1_770_091_506_789_000,
    "tz": "2026-02-03T02:05:06.7Z",
    "bin": "AP8=",
    "u": "6d0a4ee4-4f5b-4f0e-8d4c-1c1f6b8a9d11",
    "j": '{"k": [1]}',
    "a": "{1,2}",
    "m": "ok",
}
SECOND = {
    "id": 2,
    "part": "",
    "n": "-0.0001",
    "big": "NaN",
    "f4": "NaN",
    "f8": "-Infinity",
    "b": False,
    "d": -735_160,
    "t": 86_400_000_000,
    "ts": 2**63 - 1,
    "tz": "-0043-03-15T00:00:00Z",
    "bin": "",
    "u": None,
    "j": None,
    "a": "{}",
    "m": None,
}


def events(fed: Fed, topic: str, partitions: int = 1) -> list[tuple[Any, Any]]:
    """(key, value) of each message; None for what is not there."""
    found = committed(fed.broker.address, topic, partitions)
    return [(json.loads(m.key() or b"null"), json.loads(m.value() or b"null")) for m in found]


def test_values_are_the_same_copied_and_followed(fed: Fed) -> None:
    """Every kind of value, in the form that docs/kafka.md has."""
    fed.configure()
    fed.database.execute(TYPES)
    fed.stack.start()
    fed.wait_sent()
    fed.database.execute("CREATE SCHEMA other; CREATE TABLE other.kept AS SELECT * FROM typed")
    fed.database.execute("DELETE FROM typed")
    fed.database.execute("INSERT INTO typed SELECT * FROM other.kept ORDER BY id")
    fed.wait_sent()
    found = events(fed, "shop.public.typed")
    ops = [value["op"] if value else None for _, value in found]
    assert ops == ["r", "r", "d", None, "d", None, "c", "c"]
    rows = [value["after"] for _, value in found if value and value["after"]]
    assert sorted(rows[:2], key=lambda row: row["id"]) == [FIRST, SECOND]
    assert rows[2:] == [FIRST, SECOND]
    assert found[-1][0] == {"part": "", "id": 2}
    source = found[-1][1]["source"]
    assert (source["schema"], source["table"], source["snapshot"]) == ("public", "typed", "false")
    assert found[-1][1]["transaction"] == {
        "id": source["position"],
        "total_order": 2,
        "data_collection_order": 2,
    }
    gone = found[2][1]["before"]
    assert gone["id"] in {1, 2}
    assert gone["n"] is None


def test_changes_of_every_kind(fed: Fed) -> None:
    """TOAST, keys, keyless tables, TRUNCATE, DDL with and without a rewrite, a new table."""
    execute = fed.database.execute
    execute("CREATE TABLE doc (id int PRIMARY KEY, big text, n int)")
    execute("ALTER TABLE doc ALTER COLUMN big SET STORAGE EXTERNAL")
    execute("CREATE TABLE loose (a int, b text)")
    execute("ALTER TABLE loose REPLICA IDENTITY FULL")
    fed.stack.start()
    fed.wait_sent()
    execute("INSERT INTO doc VALUES (1, repeat('x', 9000), 1)")
    execute("UPDATE doc SET n = 2")
    execute("UPDATE doc SET id = 5")
    execute("INSERT INTO loose VALUES (1, 'a'), (1, 'a')")
    execute("UPDATE loose SET b = 'z' WHERE ctid = (SELECT min(ctid) FROM loose)")
    execute("ALTER TABLE doc ADD COLUMN more text")
    execute("INSERT INTO doc VALUES (6, 'y', 6, 'm')")
    fed.wait_sent()
    execute("TRUNCATE loose")
    execute("CREATE TABLE late (id int PRIMARY KEY)")
    execute("INSERT INTO late VALUES (7)")
    execute("ALTER TABLE doc ADD COLUMN filled int DEFAULT 9")
    fed.wait(lambda: 'table copied to the sink" table=shop.public.late' in fed.stack.log_end())
    fed.wait(lambda: fed.stack.log_end().count('to the sink" table=shop.public.doc') == 2)
    fed.wait_sent()
    found = [value for _, value in events(fed, f"{fed.sink}.all") if value]
    doc = [(e["op"], e["after"] and e["after"]["id"]) for e in found if _of(e, "doc")]
    assert doc == [("c", 1), ("u", 1), ("d", None), ("c", 5), ("c", 6), ("t", None), *R]
    updated = next(e for e in found if _of(e, "doc") and e["op"] == "u")
    assert updated["after"] == {"id": 1, "big": "__debezium_unavailable_value", "n": 2}
    assert [e["after"] for e in found if _of(e, "doc")][-1]["filled"] == 9
    loose = [(e["op"], e["before"], e["after"]) for e in found if _of(e, "loose")]
    one, two = {"a": 1, "b": "a"}, {"a": 1, "b": "z"}
    assert loose[:3] == [("c", None, one), ("c", None, one), ("u", one, two)]
    assert loose[3:] == [("t", None, None)]
    assert [e["op"] for e in found if _of(e, "late")] in (["r"], ["r", "c"])


R = [("r", 5), ("r", 6)]


def test_arrow_messages(fed: Fed) -> None:
    """The same changes as Arrow: replayed, they are the source's rows."""
    fed.configure({"batch_rows": 1000}, format="arrow")
    execute = fed.database.execute
    execute("CREATE TABLE doc (id int PRIMARY KEY, big text, n numeric(9,2), at timestamptz)")
    execute("ALTER TABLE doc ALTER COLUMN big SET STORAGE EXTERNAL")
    execute("INSERT INTO doc SELECT g, repeat('x', 3000), g, now() FROM generate_series(1, 900) g")
    fed.stack.start()
    fed.wait_sent()
    execute("UPDATE doc SET n = n + 1 WHERE id < 100")
    execute("UPDATE doc SET id = id + 10000, n = 0 WHERE id BETWEEN 50 AND 60")
    execute("DELETE FROM doc WHERE id BETWEEN 881 AND 900")
    execute("INSERT INTO doc VALUES (1001, NULL, NULL, NULL)")
    fed.wait_sent()
    rows: dict[int, dict[str, Any]] = {}
    ops: Counter[str] = Counter()
    messages = committed(fed.broker.address, "shop.public.doc")
    for message in messages:
        value = message.value()
        assert isinstance(value, bytes)
        assert len(value) < 1_000_000
        for row in pa.ipc.open_stream(value).read_all().to_pylist():
            _replay_arrow(rows, row)
            ops[row["op"]] += 1
    assert len(messages) > 4, "900 rows of 3 kB are more than one message"
    assert ops == {"r": 900, "u": 110, "d": 20, "c": 1}
    expected = execute("SELECT id, big, n, at FROM doc ORDER BY id")
    assert [tuple(rows[key].values()) for key in sorted(rows)] == expected


def _replay_arrow(rows: dict[int, dict[str, Any]], row: dict[str, Any]) -> None:
    before, after = row["before"], row["after"]
    former = rows.pop(before["id"]) if before else {}
    if after is not None:
        former = former or rows.get(after["id"], {})
        for name in row["unavailable"] or ():
            after[name] = former[name]
        rows[after["id"]] = after


def _of(event: dict[str, Any], table: str) -> bool:
    return bool(event["source"]["table"] == table)


def test_keys_over_partitions(fed: Fed) -> None:
    """One key stays in one partition, where Java's producer would put it; `t` is in each."""
    fed.configure(partitions=3, topic=f"{fed.sink}.{{schema}}.{{table}}", tables=["public.a"])
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY, v int)")
    fed.database.execute("CREATE TABLE b (id int PRIMARY KEY)")
    fed.database.execute("INSERT INTO a SELECT g, 0 FROM generate_series(1, 30) g")
    fed.stack.start()
    fed.wait_sent()
    fed.database.execute("UPDATE a SET v = 1")
    fed.database.execute("TRUNCATE a")
    fed.wait_sent()
    assert [t["table"] for t in fed.status()["tables"]] == ["shop.public.a"]
    places: dict[bytes, set[int]] = {}
    truncated = []
    for message in committed(fed.broker.address, f"{fed.sink}.public.a", 3):
        key, partition = message.key(), message.partition()
        assert partition is not None
        if key is None:
            truncated.append(partition)
        else:
            places.setdefault(bytes(key), set()).add(partition)
    assert sorted(truncated) == [0, 1, 2]
    assert len(places) == 30
    assert {len(found) for found in places.values()} == {1}
    # murmur2 of the bytes, as Java has it: (hash & 0x7fffffff) % 3
    assert places[b'{"id":1}'] == {_murmur2(b'{"id":1}') % 3}


def _murmur2(data: bytes) -> int:
    """Kafka's Utils.murmur2, made positive."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        value = (value * m & mask) ^ k
    rest = data[whole:]
    if rest:
        value = (value ^ int.from_bytes(rest, "little")) * m & mask
    value = (value ^ (value >> 13)) * m & mask
    return (value ^ (value >> 15)) & 0x7FFFFFFF


def test_a_large_transaction_is_one(fed: Fed) -> None:
    """It comes in parts, and is seen as a whole, under one name."""
    fed.configure({"batch_rows": 100}, topic=f"{fed.sink}.all")
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    fed.stack.start()
    fed.wait_sent()
    fed.database.execute("INSERT INTO a SELECT generate_series(1, 2500)")
    fed.wait_sent()
    replayed = replay(fed.broker.address, f"{fed.sink}.all")
    assert len(replayed.transactions) == 1
    assert replayed.ops == {"c": 2500}
