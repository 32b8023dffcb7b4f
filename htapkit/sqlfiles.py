"""Reads the SQL files that ship with htapkit, as `sql("demo/schema")`. Never runs or fills them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
# A wheel carries the folder inside the package; a checkout has it beside.
_ROOTS = (_HERE / "_sql", _HERE.parent / "sql")


@cache
def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    for root in _ROOTS:
        path = root / f"{name}.sql"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"sql/{name}.sql is not part of this installation of htapkit")
