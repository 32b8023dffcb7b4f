"""Where the lake is: its catalog and its warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from htapkit.lake.locations import local_path


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """Where the lake is.

    `catalog` holds pyiceberg's own catalog properties (`type`, `uri`, `s3.endpoint`, …), so that
    whatever catalog pyiceberg knows can be used. `warehouse` is the folder of the tables as a URI
    or a path; for a REST catalog it may be the name that the catalog gives it, and then the
    catalog decides where tables lie.
    """

    catalog: Mapping[str, str]
    warehouse: str
    name: str = field(default="htapkit")  # part of the key in a SQL catalog: other engines need it

    @classmethod
    def local(cls, folder: Path) -> LakeSettings:
        """A catalog on SQLite (`catalog.db`) and a folder `warehouse`, both inside `folder`."""
        folder = folder.absolute()
        return cls(
            catalog={"type": "sql", "uri": f"sqlite:///{folder}/catalog.db?timeout=30"},
            warehouse=f"file://{folder}/warehouse",
        )

    @property
    def folder(self) -> str:
        """The warehouse as the beginning of its files' paths."""
        return f"{local_path(self.warehouse).rstrip('/')}/"
