"""A feed's progress as records of its positions topic: one for the position, one for each table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from htapkit.errors import SinkRefused
from htapkit.model import Column, Position, SqlType, Storage, TableId, TableSchema
from htapkit.sinks import FedTable, Progress, Stage

VERSION: Final = 1
_POSITION: Final = {"kind": "position"}


def records(before: Progress, after: Progress) -> Iterator[tuple[bytes, bytes | None]]:
    """What has to be written to come from one progress to another; the position always is."""
    for table in before.tables.keys() - after.tables.keys():
        yield _table_key(table), None
    for table, fed in after.tables.items():
        if before.tables.get(table) != fed:
            yield _table_key(table), _dumps(_described(fed))
    yield (
        _dumps(_POSITION),
        _dumps({"version": VERSION, "position": after.position, "identity": after.identity}),
    )


def read(source: str, found: Mapping[bytes, bytes | None]) -> Progress:
    """The progress that the newest records of each key say. Raises SinkRefused: not ours."""
    position: Position | None = None
    identity = ""
    tables: dict[TableId, FedTable] = {}
    try:
        for key, value in found.items():
            if value is None:
                continue
            name, told = json.loads(key), json.loads(value)
            if name == _POSITION:
                if told["version"] != VERSION:
                    raise SinkRefused(
                        f"the positions topic is of version {told['version']}, this htapkit knows "
                        f"{VERSION}; use the htapkit that wrote it, or newer"
                    )
                position, identity = told["position"], told["identity"]
            else:
                table = TableId(source, name["schema"], name["table"])
                tables[table] = _fed(table, told)
    except (KeyError, TypeError, ValueError) as error:
        raise SinkRefused(
            "the positions topic has records that htapkit did not write; give the sink another "
            "name, or remove the topic"
        ) from error
    return Progress(position, identity, tables)


def _dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _table_key(table: TableId) -> bytes:
    return _dumps({"kind": "table", "schema": table.schema, "table": table.name})


def _described(fed: FedTable) -> Mapping[str, Any]:
    schema = dataclasses.asdict(fed.schema)
    del schema["table"]
    return {
        "schema": schema,
        "fingerprint": fed.fingerprint,
        "stage": fed.stage.value,
        "copied_at": fed.copied_at,
        "begun": fed.begun,
        "why": fed.why,
    }


def _fed(table: TableId, told: Mapping[str, Any]) -> FedTable:
    schema = dict(told["schema"])
    columns = tuple(
        Column(**{**c, "type": SqlType(**c["type"]), "storage": Storage(c["storage"])})
        for c in schema.pop("columns")
    )
    return FedTable(
        TableSchema(table, columns, tuple(schema.pop("key")), **schema),
        told["fingerprint"],
        Stage(told["stage"]),
        told["copied_at"],
        told["begun"],
        told["why"],
    )
