"""What the configuration says of one Cassandra source, checked. No message holds the password."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from htapkit.errors import ConfigError
from htapkit.spi import SourceOptions

_MEMORY = re.compile(r"[1-9]\d*(MB|GB)")


@dataclass(frozen=True, slots=True)
class Settings:
    """The keys below `sources.NAME`, without `connector`."""

    source: str
    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int = 9042
    user: str = ""
    password: str = field(default="", repr=False)
    tables: tuple[str, ...] = ("*.*",)
    cdc_raw: str = ""
    cassandra_home: str = ""
    helper_memory: str = "512MB"
    jmx_port: int = 7199
    delete_cdc_raw: bool = False

    def wants(self, keyspace: str, table: str) -> bool:
        """Whether the patterns ask for this table."""
        name = f"{keyspace}.{table}"
        if any(p.startswith("!") and fnmatchcase(name, p[1:]) for p in self.tables):
            return False
        return any(fnmatchcase(name, p) for p in self.tables if not p.startswith("!"))


def parse_settings(options: SourceOptions) -> Settings:
    """Check the connector's own keys. Raises ConfigError naming the key."""
    found = dict(options.settings)
    allowed = tuple(name for name in Settings.__dataclass_fields__ if name != "source")
    unknown = sorted(set(found) - set(allowed))
    if unknown:
        names = ", ".join(f"sources.{options.name}.{key}" for key in unknown)
        raise ConfigError(f"unknown key {names}; allowed there: {', '.join(allowed)}")
    keys = _Keys(options.name, found)
    if ("user" in found) != ("password" in found):
        raise ConfigError(f"sources.{options.name}: user and password go together")
    return Settings(
        source=options.name,
        hosts=keys.names("hosts", ("127.0.0.1",), "a list of addresses of nodes"),
        port=keys.port("port", 9042),
        user=keys.text("user", "a name"),
        password=keys.text("password", "a text"),
        tables=keys.patterns(),
        cdc_raw=keys.text("cdc_raw", "the node's cdc_raw_directory"),
        cassandra_home=keys.text("cassandra_home", "the folder of an installation"),
        helper_memory=keys.memory(),
        jmx_port=keys.port("jmx_port", 7199),
        delete_cdc_raw=keys.yes("delete_cdc_raw"),
    )


class _Keys:
    """Reads typed values out of the configuration's section of one source."""

    def __init__(self, source: str, found: Mapping[str, object]) -> None:
        self._source = source
        self._found = found

    def _wrong(self, key: str, expected: str) -> ConfigError:
        value = "" if key == "password" else f", found {self._found.get(key)!r}"
        return ConfigError(f"sources.{self._source}.{key}: expected {expected}{value}")

    def text(self, key: str, expected: str) -> str:
        value = self._found.get(key, "")
        if not isinstance(value, str) or (key in self._found and not value):
            raise self._wrong(key, expected)
        return value

    def names(self, key: str, default: tuple[str, ...], expected: str) -> tuple[str, ...]:
        value = self._found.get(key, default)
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise self._wrong(key, expected)
        if not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, expected)
        return tuple(value)

    def patterns(self) -> tuple[str, ...]:
        expected = 'a list of patterns such as ["demo.*", "!demo.audit_*"]'
        value = self.names("tables", ("*.*",), expected)
        if not all("." in item for item in value) or all(item.startswith("!") for item in value):
            raise self._wrong("tables", expected)
        return value

    def port(self, key: str, default: int) -> int:
        value = self._found.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
            raise self._wrong(key, "a port number")
        return value

    def yes(self, key: str) -> bool:
        value = self._found.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def memory(self) -> str:
        value = self._found.get("helper_memory", "512MB")
        if not isinstance(value, str) or not _MEMORY.fullmatch(value):
            raise self._wrong("helper_memory", "a size such as 512MB")
        return value
