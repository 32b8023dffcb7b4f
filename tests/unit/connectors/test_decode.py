"""Decoding of hand-made messages: shapes that a healthy server never or seldom sends, too."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa
import pytest

from htapkit.errors import SourceError, UnfaithfulValue
from htapkit.model import Broken, Column, Op, RowChanges, SqlType, TableId, TableSchema, Truncate
from htapkit_postgres.decode import Decoder, Frames
from htapkit_postgres.pgoutput import Relation
from htapkit_postgres.values import Unfit, convert, parse_date, parse_timestamp

OID = 4_000_000_001
T = TableId("s", "public", "t")
SCHEMA = TableSchema(
    T,
    (Column("id", SqlType("int8", 20), 1), Column("v", SqlType("text", 25), 2)),
    key=("id",),
)
Value = str | None  # "~" = unchanged


def _relation(
    columns: Sequence[str] = ("id", "v"), oid: int = OID, identity: bytes = b"d", name: str = "t"
) -> bytes:
    parts = [
        (b"\1" if column == "id" else b"\0") + column.encode() + b"\0" + struct.pack(">Ii", 25, -1)
        for column in columns
    ]
    head = b"R" + struct.pack(">I", oid) + b"public\0" + name.encode() + b"\0" + identity
    return head + struct.pack(">H", len(parts)) + b"".join(parts)


def _tuple(*values: Value) -> bytes:
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None or value == "~":
            out += b"n" if value is None else b"u"
        else:
            raw = value.encode()
            out += b"t" + struct.pack(">I", len(raw)) + raw
    return out


def _insert(*values: Value, oid: int = OID) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N" + _tuple(*values)


def _update(*values: Value, old: bytes = b"") -> bytes:
    return b"U" + struct.pack(">I", OID) + old + b"N" + _tuple(*values)


def _delete(*values: Value, marker: bytes = b"K") -> bytes:
    return b"D" + struct.pack(">I", OID) + marker + _tuple(*values)


def _frames(*messages: bytes, starts: Sequence[int] = (0,)) -> Frames:
    data, lengths = b"".join(messages), [len(message) for message in messages]
    return Frames(data, lengths, starts, tuple(range(1, len(starts) + 1)))


def _decoder(schema: TableSchema = SCHEMA) -> Decoder:
    return Decoder("s", lambda _: schema)


def _one(*messages: bytes, schema: TableSchema = SCHEMA) -> RowChanges:
    (change,) = _decoder(schema).decode(_frames(*messages))
    assert isinstance(change, RowChanges)
    return change


def test_nothing() -> None:
    assert _decoder().decode(Frames(b"", [])) == ()
    assert _decoder().decode(_frames(_relation())) == ()
    assert _decoder().decode(_frames(_relation(), b"Y....", b"M....", b"O....")) == ()


def test_rows_in_order() -> None:
    change = _one(
        _relation(),
        _insert("1", "é"),
        _update("1", None),
        _update("2", "~", old=b"K" + _tuple("1", None)),
        _delete("2", None),
    )
    assert change.rows.to_pydict() == {"id": [1, 1, 2, 2], "v": ["é", None, None, None]}
    assert change.ops.to_pylist() == [Op.INSERT, Op.UPDATE, Op.UPDATE, Op.DELETE]
    assert change.before is not None
    assert change.before.to_pydict() == {"id": [None, None, 1, None]}
    assert change.unchanged["v"].to_pylist() == [False, False, True, False]


def test_an_old_key_that_is_the_new_one_moves_nothing() -> None:
    change = _one(_relation(), _update("1", "a", old=b"K" + _tuple("1", None)))
    assert (change.before, change.moved) == (None, None)


def test_an_unchanged_key_comes_from_the_old_one() -> None:
    schema = TableSchema(T, SCHEMA.columns, key=("v",))
    old = b"O" + _tuple("1", "toast")
    change = _one(_relation(identity=b"f"), _update("2", "~", old=old), schema=schema)
    assert change.rows.to_pylist() == [{"id": 2, "v": "toast"}]
    assert (change.before, change.unchanged) == (None, {})


def test_whole_rows_have_all_columns_before() -> None:
    schema = TableSchema(T, SCHEMA.columns, whole_rows=True)
    relation = _relation(identity=b"f")
    change = _one(relation, _update("1", "b", old=b"O" + _tuple("1", "a")), schema=schema)
    assert change.before is not None
    assert change.before.to_pylist() == [{"id": 1, "v": "a"}]


def test_commits() -> None:
    messages = [_relation(), _insert("1", ""), _insert("2", ""), _insert("3", "")]
    (change,) = _decoder().decode(_frames(*messages, starts=[0, 2, 3, 3]))
    assert isinstance(change, RowChanges)
    assert change.commit.to_pylist() == [0, 1, 3]


def test_columns_by_name() -> None:
    """Other order, one more, one less."""
    extra = Column("new", SqlType("int4", 23), 3)
    schema = TableSchema(T, (*SCHEMA.columns, extra), key=("id",))
    change = _one(_relation(("gone", "v", "id")), _insert("x", "a", "1"), schema=schema)
    assert change.rows.to_pylist() == [{"id": 1, "v": "a", "new": None}]
    assert change.rows.schema == schema.arrow


def test_two_relations_of_one_name() -> None:
    """A table that was dropped and made again: the old rows come out first."""
    decoder, new = _decoder(), OID + 1
    decoder.decode(_frames(_relation()))
    frames = _frames(_insert("1", "old"), _relation(oid=new), _insert("1", "new", oid=new))
    rows = [c.rows["v"].to_pylist() for c in decoder.decode(frames) if isinstance(c, RowChanges)]
    assert rows == [["old"], ["new"]]


def test_a_repeated_relation_is_no_barrier() -> None:
    assert _one(_relation(), _insert("1", ""), _relation(), _insert("2", "")).rows.num_rows == 2


def test_ignored_and_broken_tables() -> None:
    def broken(relation: Relation) -> Broken:
        return Broken(TableId("s", relation.schema, relation.name), "why")

    frames = _frames(_relation(), _insert("1", ""), b"T" + struct.pack(">IBI", 1, 0, OID))
    assert Decoder("s", broken).decode(frames) == (Broken(T, "why"),)
    assert Decoder("s", lambda _: None).decode(frames) == ()


def test_truncate_names_only_what_is_followed() -> None:
    other = TableId("s", "public", "other")
    decoder = Decoder("s", lambda r: SCHEMA if r.name == "t" else None)
    relations = [_relation(), _relation(oid=7, name=other.name)]
    truncate = b"T" + struct.pack(">IBII", 2, 0, 7, OID)
    frames = _frames(*relations, _insert("1", ""), truncate, _insert("2", ""), starts=[0, 3])
    before, gone, after = decoder.decode(frames)
    assert gone == Truncate((T,), 1)
    assert isinstance(before, RowChanges)
    assert isinstance(after, RowChanges)
    assert (before.rows["id"].to_pylist(), after.rows["id"].to_pylist()) == ([1], [2])


@pytest.mark.parametrize(
    "message",
    [
        b"Z",
        b"S" + bytes(20),
        _insert("1"),  # too few columns
        _insert("1", "2")[:-1],
        _insert("1", "2") + b"x",
        b"I" + struct.pack(">I", OID) + b"K" + _tuple("1", "2"),
        _delete("1", None, marker=b"N"),
        _update("1", "2", old=b"O" + _tuple("1", "2"))[:-9],
        _insert("1", "2").replace(b"t", b"b"),
        _insert("1", "2").replace(b"t", b"?"),
        b"I" + struct.pack(">I", OID) + b"N\0\2t\x7f\xff\xff\xff1",
        b"I" + struct.pack(">I", OID) + b"N\0\2t\xff\xff\xff\xff1",
        _insert("1", "2", oid=1),
        b"I",
        b"",
    ],
)
def test_malformed(message: bytes) -> None:
    decoder = _decoder()
    decoder.decode(_frames(_relation()))
    for messages in ([message], [_insert("1", "2"), _delete("1", None), message]):
        with pytest.raises(SourceError):
            decoder.decode(_frames(*messages))
    assert len(decoder.decode(_frames(_insert("1", "2")))) == 1


def test_lengths_that_do_not_add_up() -> None:
    with pytest.raises(SourceError, match="add up"):
        _decoder().decode(Frames(_relation() + b"x", [len(_relation())]))


def test_a_bytearray_is_read_as_it_is() -> None:
    messages = [_relation(), _insert("1", "x")]
    frames = Frames(bytearray(b"".join(messages)), [len(m) for m in messages])
    (change,) = _decoder().decode(frames)
    assert isinstance(change, RowChanges)
    assert change.rows.to_pylist() == [{"id": 1, "v": "x"}]


def test_unfaithful_values_are_not_told() -> None:
    with pytest.raises(UnfaithfulValue) as caught:
        _one(_relation(), _insert("secret", ""))
    assert (caught.value.table, caught.value.column) == (T, "id")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1970-01-01", 0),
        ("2000-02-29", 11016),
        ("2000-03-01", 11017),
        ("1900-03-01", -25508),
        ("0001-01-01", -719162),
        ("0001-12-31 BC", -719163),
        ("4714-11-24 BC", -2440588),
        ("5874897-12-31", 2145042905),
    ],
)
def test_days(text: str, days: int) -> None:
    assert parse_date(text) == days


def test_the_last_timestamp() -> None:
    assert parse_timestamp("294247-01-10 04:00:54.775806+00") == 2**63 - 2
    for text in ("294247-01-10 04:00:54.775807", "294276-12-31 23:59:59.999999", "2026-13"):
        with pytest.raises(Unfit):
            parse_timestamp(text)


def test_slices_are_converted_as_they_are() -> None:
    """Arrays that do not begin where their buffers do."""
    texts = pa.array(["x", None, "infinity", None, "2026-01-02", "\\x"]).slice(1, 4)
    assert convert(texts, pa.date32()).view(pa.int32()).to_pylist() == [
        None,
        2**31 - 1,
        None,
        20455,
    ]
    texts = pa.array(["x", None, "\\x00ff", "\\x", None, "\\x41", "y"]).slice(1, 5)
    assert convert(texts, pa.binary()).to_pylist() == [None, b"\0\xff", b"", None, b"A"]
    for wrong in ("\\xabc", "escape\\001"):
        with pytest.raises(Unfit):
            convert(pa.array([wrong]), pa.binary())
