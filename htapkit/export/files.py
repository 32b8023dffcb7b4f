"""Batches into one Parquet or CSV file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 * 2**20


class FileFormat(StrEnum):
    """How a file holds rows."""

    PARQUET = "parquet"
    CSV = "csv"


def write_file(
    file: BinaryIO,
    format_: FileFormat,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    told: Mapping[str, str],
) -> int:
    """Write all rows; how many. `told` stays in a Parquet file as its metadata.

    A CSV file is as PostgreSQL's COPY … (FORMAT csv, HEADER) reads it back: the batches are text
    then, NULL is nothing, and an empty text is "".
    """
    rows = 0
    if format_ is FileFormat.CSV:
        options = pa_csv.WriteOptions(include_header=True, quoting_style="needed")
        with pa_csv.CSVWriter(file, schema, write_options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows
    described = schema.with_metadata({**(schema.metadata or {}), **told})
    with pq.ParquetWriter(file, described, compression="zstd") as writer:
        gathered: list[pa.RecordBatch] = []
        for batch in batches:
            gathered.append(batch)
            rows += batch.num_rows
            held = sum(each.num_rows for each in gathered)
            if held >= _GROUP_ROWS or sum(each.nbytes for each in gathered) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(gathered, schema))
                gathered = []
        if gathered:
            writer.write_table(pa.Table.from_batches(gathered, schema))
    return rows
