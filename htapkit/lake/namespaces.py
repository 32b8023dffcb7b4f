"""What tables are called in the catalog, and the namespaces that they lie in."""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError

from htapkit.lake.foreign import FOREIGN
from htapkit.model import TableId


def identifier(table: TableId) -> tuple[str, str, str]:
    """The table's name in the catalog, level by level."""
    return _level(table.source), _level(table.schema), table.name


def _level(name: str) -> str:
    """A level of a namespace: SQL catalogs write a dot between levels, so none may be inside."""
    return name.replace("%", "%25").replace(".", "%2E")


def make(catalog: Catalog, namespace: tuple[str, ...]) -> None:
    """Make a namespace unless it is there, or somebody makes it at the same moment."""
    try:
        catalog.create_namespace(namespace)
    except NamespaceAlreadyExistsError:
        return
    except FOREIGN:
        if not catalog.namespace_exists(namespace):
            raise


def of_tables(catalog: Catalog) -> list[tuple[str, ...]]:
    """Those that are a source and a schema."""
    found = []
    for outer in catalog.list_namespaces():
        if len(outer) > 1:
            found.append(tuple(outer))
        else:
            found += [tuple(inner) for inner in catalog.list_namespaces(outer)]
    return [namespace for namespace in dict.fromkeys(found) if len(namespace) == 2]
