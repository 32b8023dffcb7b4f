"""A block's cells as those of the copy: what its rows would give one by one, and faster. Pure.

Numbers and texts are converted column by column; of other types each different value once, and each
run of cells with the same times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from htapkit.model import place_keys
from htapkit_cassandra import cql
from htapkit_cassandra.blocks import MARKER, NEVER, Block, Numbers
from htapkit_cassandra.cql import Cql
from htapkit_cassandra.layout import KeyPart, Layout, element, rank_of, sorts_as_text
from htapkit_cassandra.wholes import whole

_Column = tuple[int | None, Numbers, pa.Array, pa.Array, pa.Array]
"""Its ordinal, which cells of the block are its own, and their paths, texts and ties."""


def cells_of(block: Block, layout: Layout, arrow: pa.Schema) -> pa.RecordBatch:
    """In the schema `arrow`, that of `htapkit.model.cells_arrow`; column by column.

    Cells of columns that the layout does not have are left out. Raises ValueError for a value that
    no column can hold.
    """
    columns = list(_columns(block, layout))
    if not columns:
        return pa.RecordBatch.from_pylist([], schema=arrow)
    ordinals, cells, paths, texts, ties = zip(*columns, strict=True)
    order = np.concatenate(cells)
    of_rows = pa.array(block.row[order])
    found = {name: each.take(of_rows) for name, each in _rows(block, layout, arrow).items()}
    found["ordinal"] = pa.concat_arrays(
        pa.repeat(pa.scalar(ordinal, pa.int32()), len(each))
        for ordinal, each in zip(ordinals, cells, strict=True)
    )
    found["path"], found["value"], found["tie"] = map(pa.concat_arrays, (paths, texts, ties))
    found["rank"] = _ranks(block).take(pa.array(order))
    ends = np.where(block.ttl != 0, block.expires, NEVER)[order]
    found["expires"] = pa.array(ends * 1_000_000, mask=ends == NEVER)
    return pa.RecordBatch.from_arrays([found[name] for name in arrow.names], schema=arrow)


def _rows(block: Block, layout: Layout, arrow: pa.Schema) -> dict[str, pa.Array]:
    """What all cells of a row share, a value for each row."""
    places, keys = layout.places, [column.to_pylist() for column in block.key]
    partitions = {key: places.partition(key) for key in zip(*keys, strict=True)}
    within = [partitions[key] for key in zip(*keys, strict=True)]
    found = {"place": pa.array(within, pa.binary())}
    clustered = list(zip(*(column.to_pylist() for column in block.clustering), strict=True))
    if clustered:
        pairs = zip(within, clustered, strict=True)
        found["place"] = pa.array((p + places.prefix(c) for p, c in pairs), pa.binary())
    shared = clustered and layout.schema.sharing
    found["within"] = pa.array(within if shared else [None] * len(within), pa.binary())
    parts = zip(place_keys(layout.schema), layout.key, (*block.key, *block.clustering), strict=True)
    for name, part, values in parts:
        found[name] = _keys(values, part, arrow.field(name).type)
    return found


def _columns(block: Block, layout: Layout) -> Iterator[_Column]:
    markers = np.flatnonzero(block.column == MARKER)
    if len(markers):
        none = pa.nulls(len(markers), pa.binary())
        yield None, markers, none, pa.repeat(pa.scalar(""), len(markers)), none
    ordinals = layout.ordinals
    for number, name in enumerate(block.columns):
        if name not in ordinals:
            continue  # newer than the copy, which is made again soon
        type_, cells = layout.types[name], np.flatnonzero(block.column == number)
        values, paths = block.value.take(pa.array(cells)), block.path.take(pa.array(cells))
        tie = values
        if paths.null_count < len(paths):
            paths, texts = _elements(type_, values, paths)
        else:
            texts = _texts(values, type_)
            tie = pa.nulls(len(cells), pa.binary()) if sorts_as_text(type_) else values
        yield ordinals[name], cells, paths, texts, tie


def _elements(
    type_: Cql, values: pa.BinaryArray, paths: pa.BinaryArray
) -> tuple[pa.BinaryArray, pa.StringArray]:
    pairs = zip(values.to_pylist(), paths.to_pylist(), strict=True)
    orders, texts = zip(*(element(type_, value, path) for value, path in pairs), strict=True)
    return pa.array(orders, pa.binary()), pa.array(texts, pa.string())


def _keys(values: pa.BinaryArray, part: KeyPart, arrow: pa.DataType) -> pa.Array:
    found = whole(part.type, values)
    if found is not None and (pa.types.is_integer(arrow) or pa.types.is_timestamp(arrow)):
        return found.cast(arrow)
    return _each(values, part.value, arrow)


def _texts(values: pa.BinaryArray, type_: Cql) -> pa.StringArray:
    found = whole(type_, values)
    if found is not None:
        return found.cast(pa.string())
    return _each(values, partial(cql.as_text, type_), pa.string())


def _each(
    values: pa.BinaryArray, convert: Callable[[bytes], object], type_: pa.DataType
) -> pa.Array:
    """Nulls stay nulls."""
    encoded = values.dictionary_encode()
    converted = [convert(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(converted, type_).take(encoded.indices)


def _ranks(block: Block) -> pa.BinaryArray:
    """Of each cell. Those of one write lie behind one another, and have one rank."""
    gone = block.value.is_null().to_numpy(zero_copy_only=False)
    told = np.stack([block.written, block.ttl, block.expires, gone])
    new = np.ones(len(gone), bool)
    new[1:] = (told[:, 1:] != told[:, :-1]).any(axis=0)
    ranks = [
        rank_of(written, ttl, None if expires == NEVER else expires, gone=bool(gone))
        for written, ttl, expires, gone in told[:, new].T.tolist()
    ]
    return pa.array(ranks, pa.binary()).take(pa.array(np.cumsum(new) - 1))
