"""Options of `spark.read.format("htapkit")`: checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from htapkit.errors import ConfigError

SESSION = ("freshness", "on_stale", "position", "route", "wait_timeout")
"""What `SET htapkit.…` sets on the PostgreSQL port."""

PARTITIONS_MAX = 1000

ALLOWED = (
    "url",
    "table",
    "query",
    "where",
    "push_filters",
    "database",
    "user",
    "password",
    "token",
    "tls_ca",
    "partitions",
    *SESSION,
)


@dataclass(frozen=True, slots=True)
class Options:
    """Where to ask, as whom, and for what. Secrets are not in its repr."""

    url: str
    relation: str  # what stands behind FROM
    where: str = ""  # a condition in PostgreSQL's words
    push_filters: bool = False
    database: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    tls_ca: str = ""  # PEM
    partitions: int = 1  # into how many tasks a read may be divided
    session: Mapping[str, str] = field(default_factory=dict)


def read_options(given: Mapping[str, str]) -> Options:
    """The options as Spark hands them over. Raises ConfigError, which never shows a secret.

    The file `tls_ca` is read here, so that the machines of a cluster do not need it.
    """
    found = {key.lower(): value for key, value in given.items()}
    unknown = sorted(found.keys() - set(ALLOWED))
    if unknown:
        raise ConfigError(f"unknown option {', '.join(unknown)}; allowed: {', '.join(ALLOWED)}")
    url = found.get("url", "")
    if not url.startswith(("grpc://", "grpc+tcp://", "grpc+tls://")):
        raise ConfigError("option url: expected such as grpc+tls://htap.example.org:6433")
    if bool(found.get("user")) != bool(found.get("password")):
        raise ConfigError("options user and password go together")
    if found.get("user") and found.get("token"):
        raise ConfigError("give either user and password, or token")
    return Options(
        url=url,
        relation=_relation(found.get("table", ""), found.get("query", "")),
        where=_where(found.get("where", "")),
        push_filters=_boolean("push_filters", found.get("push_filters", "false")),
        database=found.get("database", ""),
        user=found.get("user", ""),
        password=found.get("password", ""),
        token=found.get("token", ""),
        tls_ca=_read_file(found.get("tls_ca", "")),
        partitions=_count(found.get("partitions", "1")),
        session={name: found[name] for name in SESSION if found.get(name)},
    )


def _relation(table: str, query: str) -> str:
    if bool(table.strip()) == bool(query.strip()):
        raise ConfigError("give either table (a name as in SQL) or query (a SELECT)")
    if table.strip():
        return table.strip()
    return f"(\n{query.strip().rstrip(';')}\n) AS spark_query"


def _where(condition: str) -> str:
    return f"(\n{condition.strip()}\n)" if condition.strip() else ""


def _count(value: str) -> int:
    if not (value.isdecimal() and 1 <= int(value) <= PARTITIONS_MAX):
        raise ConfigError(
            f"option partitions: expected a number from 1 to {PARTITIONS_MAX}, found {value}"
        )
    return int(value)


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise ConfigError(f"option {name}: expected true or false, found {value}")
    return value.lower() == "true"


def _read_file(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"option tls_ca: cannot read {path} as a PEM file") from error
