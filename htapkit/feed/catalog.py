"""What a source's catalog says of the tables that are fed: new, gone, rewritten without events."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase

import structlog

from htapkit.feed.parts import Tables, in_doubt
from htapkit.feed.reader import Reader
from htapkit.model import SchemaChange, TableId
from htapkit.sinks import FedTable, Stage
from htapkit.spi import Discovered

_log = structlog.get_logger("htapkit.feed")
_RECONCILED = "its source has no transactions, and a sink wants rows in their order"


def wanted(patterns: Sequence[str], table: TableId) -> bool:
    """Whether a pattern matches `schema.name` and no pattern with `!` does."""
    name = f"{table.schema}.{table.name}"
    if any(p.startswith("!") and fnmatchcase(name, p[1:]) for p in patterns):
        return False
    return any(fnmatchcase(name, p) for p in patterns if not p.startswith("!"))


def compared(source: Reader, tables: Tables, patterns: Sequence[str]) -> bool:
    """Bring `tables` in step with the source's catalog; whether there are new ones.

    A schema change that is one to the stream as well is left to it: rows come in the old form until
    then. Raises SourceError.
    """
    found = {each.schema.table: each for each in source.discover()}
    found = {table: each for table, each in found.items() if wanted(patterns, table)}
    for table in tables.keys() - found.keys():
        gone(tables, table)
    added = False
    for table, now in found.items():
        before = tables.get(table)
        tables_now = _first(now) if before is None else _compared(source, table, before, now)
        if tables_now != before:
            tables[table] = tables_now
        added |= before is None or before.stage is Stage.GONE
    return added


def gone(tables: Tables, table: TableId) -> None:
    """It is not there. One that comes back under its name has to begin with a truncate."""
    fed = tables[table]
    if not fed.begun:
        del tables[table]
    elif fed.stage is not Stage.GONE:
        _log.info("table is gone", table=str(table))
        tables[table] = dataclasses.replace(
            fed, stage=Stage.GONE, copied_at=None, why="", fingerprint=""
        )


def _first(now: Discovered) -> FedTable:
    why = now.problem or (_RECONCILED if now.schema.reconciled else "")
    stage = Stage.SET_ASIDE if why else Stage.COPYING
    return FedTable(now.schema, "" if now.problem else now.fingerprint, stage, why=why)


def _compared(source: Reader, table: TableId, fed: FedTable, now: Discovered) -> FedTable:
    if now.problem or fed.stage in {Stage.SET_ASIDE, Stage.GONE}:
        return _hindered(fed, now)
    change = source.compare(fed.schema, fed.fingerprint, now)
    if change is None or fed.stage is Stage.COPYING:
        return fed  # the snapshot that is coming will have the new form
    if isinstance(change, SchemaChange) and change.faithful:
        same = change.schema == fed.schema
        return dataclasses.replace(fed, fingerprint=now.fingerprint) if same else fed
    _log.info("table is copied to the sink again", table=str(table), why=change.why)
    return in_doubt(fed, change)


def _hindered(fed: FedTable, now: Discovered) -> FedTable:
    """It cannot be followed; once what is wrong is mended, it is copied again."""
    if now.problem:
        if fed.stage is Stage.SET_ASIDE and fed.why == now.problem:
            return fed
        return dataclasses.replace(
            fed, stage=Stage.SET_ASIDE, copied_at=None, why=now.problem, fingerprint=""
        )
    if now.fingerprint == fed.fingerprint or now.schema.reconciled:
        return fed
    return dataclasses.replace(
        fed, schema=now.schema, fingerprint=now.fingerprint, stage=Stage.COPYING, why=""
    )
