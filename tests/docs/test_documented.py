"""Nothing undocumented ships: commands, keys, errors and metrics each have their place."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Union, get_args, get_origin

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

import htapkit
import htapkit_cassandra
import htapkit_kafka
import htapkit_postgres
from htapkit import metrics
from htapkit.cli import cli
from htapkit.config import Config
from htapkit.demo import demo
from htapkit.errors import HtapkitError
from htapkit.model import VIEWS
from htapkit.serve.pgwire.settings import OPTIONS, Options
from htapkit_cassandra.agent_command import cassandra_agent
from htapkit_cassandra.load_command import cassandra_load
from htapkit_cassandra.settings import Settings as CassandraSettings
from htapkit_kafka.settings import Settings as KafkaSettings
from htapkit_postgres.connection import Settings as PostgresSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Made for tests and the demo, or caught before anybody sees them.
NOT_SHOWN_MODULES = ("htapkit.testing", "htapkit.demo")


def _text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _rows(name: str) -> dict[str, list[str]]:
    """The rows of all tables of a page whose first cell is `code`: its text -> the other cells."""
    found = {}
    for line in _text(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and (key := re.fullmatch(r"`([^`]+)`", cells[0])):
            found[key[1]] = cells[1:]
    return found


COMMANDS: dict[str, click.Command] = {
    **cli.commands,
    "cassandra-agent": cassandra_agent,
    "cassandra-load": cassandra_load,
    "demo": demo,
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_has_a_heading_and_its_options(name: str) -> None:
    """Each command has a heading in operations.md, and its own options stand below."""
    sections = re.split(r"^### ", _text("operations.md"), flags=re.MULTILINE)
    section = next((s for s in sections if s.startswith(f"`htapkit {name}`")), None)
    assert section is not None, f"docs/operations.md: ### `htapkit {name}`"
    assert COMMANDS[name].help, "a command says what it does"
    json = any("--json" in option.opts for option in COMMANDS[name].params)
    assert json == ("(json)" in section)


def test_no_command_is_documented_that_is_not_there() -> None:
    """A heading without a command is a promise that nobody keeps."""
    headings = re.findall(r"^### `htapkit ([\w-]+)`", _text("operations.md"), flags=re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        yield key
        for inner, star in _models(field.annotation):
            yield from _keys(inner, f"{key}.{'*.' if star else ''}")


def _models(annotation: object) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models inside an annotation, and whether they are values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
    elif get_origin(annotation) in {Union, UnionType}:
        for each in get_args(annotation):
            if each is not NoneType:
                yield from _models(each)
    elif get_origin(annotation) is dict:
        for inner, _ in _models(get_args(annotation)[1]):
            yield inner, True


def test_every_key_has_a_row() -> None:
    """configuration.md has exactly the keys that the configuration knows."""
    settings = (CassandraSettings, KafkaSettings, PostgresSettings)
    connector = {name for each in settings for name in each.__dataclass_fields__}
    connector -= {"source", "sink"}  # their own names
    assert set(_rows("configuration.md")) == set(_keys(Config)) | connector


def _error_classes() -> list[type[HtapkitError]]:
    for package in (htapkit, htapkit_cassandra, htapkit_kafka, htapkit_postgres):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith((*NOT_SHOWN_MODULES, "htapkit.__main__")):
                importlib.import_module(module.name)
    found, left = [], [HtapkitError]
    while left:
        for each in left.pop().__subclasses__():
            left.append(each)
            if not each.__module__.startswith(("tests", *NOT_SHOWN_MODULES)):
                found.append(each)
    return found


# Raised and caught inside one package: nobody outside ever sees one.
INTERNAL_ERRORS = {
    "htapkit.ingest.copier._Cancelled",
    "htapkit.scram.ScramRefused",
    "htapkit.serve.pgwire.questions.HiddenFailed",
    "htapkit.serve.pgwire.own.Refused",
    "htapkit.serve.pgwire.parameters.OddParameter",
    "htapkit.serve.pgwire.portal.AtSource",
    "htapkit.serve.pgwire.relay.Interrupted",
}


def test_every_error_has_a_row_that_is_true() -> None:
    """errors.md: class, SQLSTATE and whether trying again helps, as in the code."""
    shown = {
        error.__name__: [error.sqlstate, "yes" if error.retry else "no"]
        for error in _error_classes()
        if f"{error.__module__}.{error.__qualname__}" not in INTERNAL_ERRORS
    }
    assert {name: cells[:2] for name, cells in _rows("errors.md").items()} == shown


def test_every_view_has_a_row_with_its_columns() -> None:
    """sql.md: schema htapkit, column by column."""
    rows = _rows("sql.md")
    for table, status in VIEWS.items():
        columns = ", ".join(column.name for column in status.schema.columns)
        assert f"`{columns}`" in rows[table.name][1]


def test_every_session_setting_has_a_row() -> None:
    """sql.md has exactly the settings that can be set, and says which value is the default."""
    rows = {n: cells for n, cells in _rows("sql.md").items() if n.startswith("htapkit.")}
    assert set(rows) == {f"htapkit.{name}" for name in OPTIONS}
    for name, cells in rows.items():
        default = getattr(Options(), name.removeprefix("htapkit."))
        assert (
            f"`{default}` (default)" in cells[0]
            or f"`{default}` by default" in cells[0]
            or (not default and "none by default" in cells[0])
        )


def test_every_metric_has_a_row() -> None:
    """metrics.md has exactly the metrics that are our own, with their labels."""
    registry = metrics.Metrics().registry
    there = {}
    for collector in list(registry._collector_to_names):
        if not isinstance(collector, MetricWrapperBase):
            continue
        name, labels = getattr(collector, "_name"), getattr(collector, "_labelnames")  # noqa: B009
        there[name] = ", ".join(labels)
    assert {name: cells[0] for name, cells in _rows("metrics.md").items()} == there


def test_links_lead_somewhere() -> None:
    """Every relative link of every page, README and ARCHITECTURE included."""
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *DOCS.rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_architecture_stays_short() -> None:
    """It is read by everybody; decisions are short as well."""
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 200
    long = [p.name for p in (DOCS / "adr").glob("*.md") if len(p.read_text().splitlines()) > 40]
    assert not long


def test_decisions_are_numbered_and_found() -> None:
    """Each has a number of its own, and stands in ARCHITECTURE.md and in the pages' menu."""
    decisions = sorted(path.name for path in (DOCS / "adr").glob("*.md"))
    numbers = [int(name[:4]) for name in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    for page in ("ARCHITECTURE.md", "mkdocs.yml"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert [name for name in decisions if f"adr/{name}" not in text] == [], page


def test_every_package_says_what_it_promises() -> None:
    """A package has a README of about half a page."""
    packages = [p for p in (ROOT / "htapkit").iterdir() if (p / "__init__.py").exists()]
    packages += [p for p in (ROOT / "connectors").iterdir() if (p / "__init__.py").exists()]
    missing = [str(p.relative_to(ROOT)) for p in packages if not (p / "README.md").exists()]
    assert not missing
