"""A table's files somewhere else: saved with all that its metadata names, and brought back.

Iceberg names files by their whole location. Where a table comes back to another place, every
metadata file is written again with the new names; data files stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pyiceberg.avro.file import AvroFile, AvroOutputFile
from pyiceberg.io import FileIO, InputFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import StructType

from htapkit.errors import LakeRefused
from htapkit.lake.locations import local_path
from htapkit.lake.maintenance import every_file
from htapkit.model import Pin

_CHUNK_BYTES = 4 * 2**20
_METADATA = ".metadata.json"
# Field ids of the Iceberg specification.
_MANIFEST_PATH, _MANIFEST_LENGTH = 500, 501
_STATUS, _DATA_FILE, _CONTENT, _FILE_PATH = 0, 2, 134, 100
_POSITION_DELETES, _DELETED = 1, 2


@dataclass(frozen=True, slots=True)
class SavedFile:
    """One file of a backup: its path below the table's folder."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SavedTable:
    """A table as it was saved: where it lay, its newest metadata file, and what belongs to it."""

    location: str
    metadata: str
    files: Sequence[SavedFile]


def save(
    table: Table, keep: Collection[Pin], folder: Path, told: Callable[[int], None]
) -> SavedTable:
    """Copy every file that the table's metadata or a pin names; `told` hears of bytes so far.

    Older metadata files may be gone already; nothing that is read needs those. Raises LakeRefused
    where a file lies outside the table's folder.
    """
    location = table.metadata.location.rstrip("/")
    paths = every_file(table) | {pin.metadata for pin in keep}
    found, done = [], 0
    for path in sorted(paths):
        name = _inside(location, path)
        if name is None:
            raise LakeRefused(f"{path} does not lie in {location}; only whole folders are saved")
        optional = path.endswith(_METADATA) and path != table.metadata_location
        try:
            source = table.io.new_input(path).open()
        except FileNotFoundError:
            if optional:
                continue
            raise
        with source:
            saved = _copy(source, folder / name, name)
        found.append(saved)
        done += saved.bytes
        told(done)
    return SavedTable(location, table.metadata_location, found)


def bring_back(saved: SavedTable, folder: Path, location: str, io: FileIO) -> None:
    """Write a saved table's files to `location`.

    Raises LakeRefused where rows of another engine's delete files name their files themselves.
    """
    if local_path(location) == local_path(saved.location):
        for file in saved.files:
            _write(io, f"{location}/{file.name}", (folder / file.name).open("rb"))
        return
    move, local = moved(saved.location, location), PyArrowFileIO()
    avro: dict[str, AvroFile[Record]] = {}
    for file in saved.files:
        path, target = folder / file.name, f"{location}/{file.name}"
        if file.name.endswith(_METADATA):
            text = json.dumps(_moved_json(json.loads(path.read_text()), move))
            with io.new_output(target).create(overwrite=True) as out:
                out.write(text.encode())
        elif file.name.endswith(".avro"):
            avro[target] = _read_avro(local.new_input(f"file://{path}"))
        else:
            _write(io, target, path.open("rb"))
    _bring_manifests(avro, io, move)


def moved(old: str, new: str) -> Callable[[str], str]:
    """What a file of the folder `old` is called in `new`; other texts stay as they are."""

    def move(path: str) -> str:
        name = _inside(old, path)
        return path if name is None else f"{new}/{name}".rstrip("/")

    return move


def _inside(folder: str, path: str) -> str | None:
    """The path below a folder; "" is the folder itself, None lies elsewhere."""
    start, found = local_path(folder), local_path(path)
    if found == start:
        return ""
    return found.removeprefix(f"{start}/") if found.startswith(f"{start}/") else None


def _copy(source: Any, path: Path, name: str) -> SavedFile:  # noqa: ANN401 - pyiceberg's stream
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return SavedFile(name, size, digest.hexdigest())


def _write(io: FileIO, location: str, source: BinaryIO) -> None:
    with source, io.new_output(location).create(overwrite=True) as out:
        while chunk := source.read(_CHUNK_BYTES):
            out.write(chunk)


def _moved_json(value: Any, move: Callable[[str], str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {key: _moved_json(each, move) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved_json(each, move) for each in value]
    return move(value) if isinstance(value, str) else value


def _read_avro(source: InputFile) -> AvroFile[Record]:
    with AvroFile[Record](source) as file:
        return file


def _bring_manifests(
    files: Mapping[str, AvroFile[Record]], io: FileIO, move: Callable[[str], str]
) -> None:
    """Manifests first: a list says how long each of its manifests is."""
    lists = {
        target: file for target, file in files.items() if _MANIFEST_PATH in file.schema.field_ids
    }
    lengths: dict[str, int] = {}
    for target in files.keys() - lists.keys():
        file = files[target]
        entries = list(file)
        at = _positions(file.schema.fields)
        struct = file.schema.find_field(_DATA_FILE).field_type
        assert isinstance(struct, StructType), "the specification says so"
        inner = _positions(struct.fields)
        for entry in entries:
            found = entry[at[_DATA_FILE]]
            _move_data_file(found, inner, move, live=entry[at[_STATUS]] != _DELETED)
        lengths[target] = _write_avro(io, target, file, entries, "manifest_entry")
    for target, file in lists.items():
        at_path, at_length = (
            _positions(file.schema.fields)[i] for i in (_MANIFEST_PATH, _MANIFEST_LENGTH)
        )
        entries = list(file)
        for entry in entries:
            entry[at_path] = move(entry[at_path])
            entry[at_length] = lengths[entry[at_path]]
        _write_avro(io, target, file, entries, "manifest_file")


def _move_data_file(
    file: Record, at: Mapping[int, int], move: Callable[[str], str], *, live: bool
) -> None:
    path = file[at[_FILE_PATH]]
    if live and _CONTENT in at and file[at[_CONTENT]] == _POSITION_DELETES:
        raise LakeRefused(
            f"{path} has deletes of another engine, which name files where they were; restore to "
            "the same place, or have that engine rewrite the data files before the backup"
        )
    file[at[_FILE_PATH]] = move(path)


def _positions(fields: Sequence[Any]) -> Mapping[int, int]:
    return {field.field_id: position for position, field in enumerate(fields)}


def _write_avro(
    io: FileIO, target: str, file: AvroFile[Record], entries: list[Record], name: str
) -> int:
    said = {key: text for key, text in file.header.meta.items() if key != "avro.schema"}
    output = io.new_output(target)
    with AvroOutputFile[Record](output, file.schema, name, metadata=said) as writer:
        writer.write_block(entries)
    return len(output.to_input_file())
