"""The configuration file: read, checked and turned into values before anything is started.

An error names the key, what was found and what is allowed; unknown keys are errors. Secrets come
from `${ENV}` and never appear in a message. A connector's own keys are checked by the connector.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from htapkit.errors import ConfigError
from htapkit.model import ARCHIVE, IMPORTED, OWN, TableId
from htapkit.sinks import SinkOptions
from htapkit.spi import SourceOptions

_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = {"ms": 0.001, "s": 1, "second": 1, "sec": 1, "min": 60, "minute": 60, "h": 3600}
_SECONDS |= {"hour": 3600, "day": 86400, "d": 86400, "week": 604800, "year": 365 * 86400}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SOURCE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


def parse_bytes(value: object) -> int:
    """`4GB`, `512 MiB` or a plain number as bytes."""
    found = _QUANTITY.fullmatch(str(value))
    if isinstance(value, bool) or not found or found[2].upper() not in _BYTES:
        raise ValueError("expected a size such as 512MB or 4GiB")
    return int(float(found[1]) * _BYTES[found[2].upper()])


def parse_seconds(value: object) -> float:
    """`7 days`, `200 ms`, `1.5 h` or a plain number as seconds."""
    found = _QUANTITY.fullmatch(str(value))
    unit = found[2].lower() if found else ""
    unit = unit[:-1] if unit.endswith("s") and unit not in {"s", "ms"} else unit or "s"
    if isinstance(value, bool) or not found or unit not in _SECONDS:
        raise ValueError("expected a duration such as 200 ms, 30 s or 7 days")
    return float(found[1]) * _SECONDS[unit]


def _parse_listen(value: object) -> str:
    host, colon, port = str(value).rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected host:port such as 127.0.0.1:6432")
    return str(value)


def _parse_place(value: object) -> str:
    scheme, url, rest = str(value).partition("://")
    if url and (scheme != "s3" or not rest.partition("/")[0]):
        raise ValueError("expected a folder, or s3://bucket/prefix")
    return str(value)


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
Listen = Annotated[str, BeforeValidator(_parse_listen)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(BaseModel):
    """One database to mirror. Keys beyond these two belong to the connector."""

    model_config = ConfigDict(extra="allow", frozen=True)
    connector: str
    readers: tuple[str, ...] = ()  # roles that may read a source without users; "*": every one

    @property
    def settings(self) -> Mapping[str, object]:
        """The connector's own keys."""
        return dict(self.model_extra or {})


class SinkConfig(BaseModel):
    """Where changes of one source are sent on to. Keys beyond these belong to the sink."""

    model_config = ConfigDict(extra="allow", frozen=True)
    connector: str
    source: str
    tables: Annotated[tuple[str, ...], Field(min_length=1)] = ("*.*",)
    on_gap: Literal["stop", "copy"] = "stop"


class _SqlPort(_Section):
    """A port that takes SQL."""

    listen: Listen
    auth: Literal["source", "trust"] = "source"
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.auth == "trust" and not self.listen.startswith(_LOOPBACK):
            raise ValueError("auth: trust lets anybody in and is allowed on loopback only")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self


class PgwireConfig(_SqlPort):
    """The PostgreSQL port."""

    listen: Listen = "127.0.0.1:6432"


class FlightConfig(_SqlPort):
    """The Flight SQL port."""

    listen: Listen = "127.0.0.1:6433"


class HttpConfig(_Section):
    """The HTTP port: health, metrics and the API that the command line uses."""

    listen: Listen = "127.0.0.1:6480"
    token: str | None = None

    @model_validator(mode="after")
    def _safe(self) -> HttpConfig:
        if self.token is None and not self.listen.startswith(_LOOPBACK):
            raise ValueError("without a token the HTTP port is allowed on loopback only")
        return self


class ServersConfig(_Section):
    """Where clients connect."""

    pgwire: PgwireConfig = PgwireConfig()
    http: HttpConfig = HttpConfig()
    flight: FlightConfig | None = None


class LimitsConfig(_Section):
    """What may be used at most. Reaching one is a named error or back-pressure, never a loss."""

    memory: Bytes = 4 * 10**9
    disk: Bytes | None = None
    disk_free: Bytes = 512 * 10**6
    staged: Bytes = 8 * 10**9
    source_connections: Annotated[int, Field(ge=4)] = 20
    client_connections: Annotated[int, Field(ge=1)] = 200
    reads: Annotated[int, Field(ge=1)] = 16
    scan: Bytes | None = None
    statement_time: Seconds = 3600.0
    lease_time: Seconds = 60.0
    slot_lag: Bytes = 4 * 10**9
    slot_lag_time: Seconds = 600.0
    slot_lag_action: Literal["drop", "warn"] = "drop"
    batch_rows: Annotated[int, Field(ge=100)] = 50_000
    batch_bytes: Bytes = 32 * 2**20
    queue_batches: Annotated[int, Field(ge=1, le=64)] = 2
    snapshot_readers: Annotated[int, Field(ge=1, le=64)] = 2
    snapshot_pace: Literal["careful", "full"] = "careful"
    snapshot_rows_per_second: Annotated[int, Field(ge=1000)] | None = None
    range_rows: Annotated[int, Field(ge=1000)] = 20_000_000
    tier_rows: Annotated[int, Field(ge=1000)] = 2_000_000
    threads: Annotated[int, Field(ge=1)] | None = None


class TableConfig(_Section):
    """What is asked of one table (`source.schema.name`)."""

    append_only: bool = False
    sort: tuple[str, ...] = ()
    time_column: str | None = None
    hot: Annotated[Seconds, Field(gt=0)] | None = None
    retention: Annotated[Seconds, Field(gt=0)] | None = None
    grace: Annotated[Seconds, Field(ge=0)] = 10 * 86_400.0
    partition: Literal["hour", "day", "month"] = "day"
    on_delete: Literal["delete", "keep"] = "delete"

    @model_validator(mode="after")
    def _ages(self) -> Self:
        if self.hot is not None and self.retention is not None and self.retention <= self.hot:
            raise ValueError("retention must be longer than hot")
        return self


class LakeConfig(_Section):
    """Where history lies, and how often the line between hot and lake is moved."""

    catalog: dict[str, str] = {}
    warehouse: str | None = None
    interval: Annotated[Seconds, Field(gt=0)] = 300.0
    keep: Seconds = 7 * 86_400.0


class ExportsConfig(_Section):
    """Where exports are written, and whose rights they have.

    `storage` has properties of an object store; without any, `lake.catalog` is looked into.
    """

    # An absolute path once it is loaded, or s3://bucket/prefix.
    folder: Annotated[str, BeforeValidator(_parse_place)]
    storage: dict[str, str] = {}
    user: str = ""  # "": the role of the source's DSN
    password: str = ""


class ImportsConfig(_Section):
    """Who may read imported tables, and how often their newest version is looked for.

    `folder` is where Parquet files of a backfill lie.
    """

    readers: dict[str, tuple[str, ...]] = {}
    interval: Annotated[Seconds, Field(gt=0)] = 10.0
    folder: Path | None = None

    def may_read(self, role: str, table: TableId) -> bool:
        """Whether a role of the connected database may: by the table's own entry, or else `*`."""
        found = self.readers.get(f"{table.schema}.{table.name}", self.readers.get("*", ()))
        return role in found or "*" in found


class Config(_Section):
    """The whole file."""

    data_dir: Path = Path("htapkit-data")
    sources: Annotated[dict[str, SourceConfig], Field(min_length=1)]
    sinks: dict[str, SinkConfig] = {}
    servers: ServersConfig = ServersConfig()
    tables: dict[str, TableConfig] = {}
    lake: LakeConfig = LakeConfig()
    engines: dict[str, dict[str, str]] = {}
    exports: ExportsConfig | None = None
    imports: ImportsConfig = ImportsConfig()
    limits: LimitsConfig = LimitsConfig()
    watch_interval: Seconds = 5.0

    @model_validator(mode="after")
    def _names(self) -> Config:
        for name in self.sources:
            if not _SOURCE_NAME.fullmatch(name):
                raise ValueError(f"source name '{name}' is not a plain lower-case identifier")
            if name in {OWN, ARCHIVE} or name in IMPORTED:
                raise ValueError(f"source name '{name}' is htapkit's own; choose another")
        for name, sink in self.sinks.items():
            if not _SOURCE_NAME.fullmatch(name) or name in self.sources:
                raise ValueError(f"sinks.{name}: a plain lower-case identifier, and no source's")
            if sink.source not in self.sources:
                known = ", ".join(self.sources)
                raise ValueError(f"sinks.{name}.source: '{sink.source}' is not one of: {known}")
        for name in self.tables:
            if name.count(".") != 2 or name.split(".", maxsplit=1)[0] not in self.sources:
                raise ValueError(f"tables.{name}: expected source.schema.table of a known source")
        return self

    def source_options(self, name: str) -> SourceOptions:
        """What one source's connector is given."""
        settings = dict(self.sources[name].settings)
        append_only = [t.split(".", 1)[1] for t, c in self.tables.items() if c.append_only]
        if append_only:
            settings["append_only"] = append_only
        limits = self.limits
        return SourceOptions(
            name=name,
            settings=settings,
            connections_max=limits.source_connections,
            slot_lag_bytes_max=limits.slot_lag,
            batch_rows_max=limits.batch_rows,
            batch_bytes_max=limits.batch_bytes,
            queue_batches_max=limits.queue_batches,
            snapshot_rows_per_second_max=limits.snapshot_rows_per_second,
            snapshot_careful=limits.snapshot_pace == "careful",
            folder=self.data_dir / "sources" / name,
            readers=tuple(each for each, sink in self.sinks.items() if sink.source == name),
        )

    def sink_options(self, name: str) -> SinkOptions:
        """What one sink is given."""
        sink = self.sinks[name]
        return SinkOptions(name, sink.source, dict(sink.model_extra or {}))


def archived(tables: Mapping[str, TableConfig]) -> frozenset[TableId]:
    """The tables of which what the source deletes is kept."""
    return frozenset(TableId(*n.split(".")) for n, t in tables.items() if t.on_delete == "keep")


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file. Raises ConfigError; nothing is started or created."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "make one with `htapkit init DSN`"
        raise ConfigError(f"cannot read {path}: {error.strerror}; {hint}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at {error.start}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected keys such as data_dir, sources, servers, limits")
    expanded = _expand(document, os.environ if environment is None else environment, "")
    try:
        config = Config.model_validate(expanded)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from error
    base = path.resolve().parent
    found: dict[str, object] = {"data_dir": base / config.data_dir}
    if config.exports is not None and "://" not in config.exports.folder:
        folder = base / config.exports.folder
        _check_apart(folder, base / config.data_dir)
        found["exports"] = config.exports.model_copy(update={"folder": str(folder)})
    if config.imports.folder is not None:
        folder = base / config.imports.folder
        found["imports"] = config.imports.model_copy(update={"folder": folder})
    return config.model_copy(update=found)


def _check_apart(exports: Path, data_dir: Path) -> None:
    """Whoever may export must not be able to replace the copy. Raises ConfigError."""
    one, other = exports.resolve(), data_dir.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise ConfigError(
            f"exports.folder: {exports} and data_dir ({data_dir}) must not lie in one another"
        )


def _expand(value: object, environment: Mapping[str, str], key: str) -> object:
    """Replace ${NAME} in every string of the document."""
    if isinstance(value, dict):
        return {k: _expand(v, environment, f"{key}.{k}".strip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, environment, f"{key}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise ConfigError(f"{key}: the environment variable {found[1]} is not set")
        return environment[found[1]]

    return _VARIABLE.sub(replace, value)


def _explain(error: ErrorDetails) -> str:
    """One pydantic finding as: key, what was found, what is allowed.

    Never the value of a secret.
    """
    key = ".".join(str(part) for part in error["loc"]) or "the file"
    allowed = ""
    if error["type"] == "extra_forbidden":
        section = _section_at(error["loc"][:-1])
        allowed = ", ".join(sorted(section.model_fields)) if section else ""
        return f"unknown key {key}" + (f"; allowed here: {allowed}" if allowed else "")
    if error["type"] == "missing":
        return f"{key} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "model_type":
        section = _section_at(error["loc"])
        message = f"expected keys: {', '.join(sorted(section.model_fields)) if section else ''}"
    secret = key.endswith(("token", "dsn", "password"))
    simple = isinstance(error["input"], str | int | float | bool)
    found = f", found {error['input']!r}" if simple and not secret else ""
    return f"{key}: {message}{found}"


def _section_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model class that a path of keys ends in."""
    section: type[BaseModel] = Config
    parts = list(location)
    while parts:
        field = section.model_fields.get(str(parts.pop(0)))
        if field is None:
            return None
        annotation = field.annotation
        arguments = get_args(annotation)
        if get_origin(annotation) is dict:
            annotation = arguments[1]
            if parts:
                parts.pop(0)
        if get_origin(annotation) is UnionType:
            annotation = next(each for each in arguments if each is not NoneType)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        section = annotation
    return section
