"""What the configuration says of one Cassandra source, checked. No message holds the password."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from htapkit.errors import ConfigError
from htapkit.spi import SourceOptions

_OF_NODE = ("hosts", "cdc_raw", "jmx_host", "jmx_port", "data_folders")
CONSISTENCIES = ("ALL", "QUORUM", "LOCAL_QUORUM", "ONE", "LOCAL_ONE")
_CDC_RAW = "the node's cdc_raw_directory"
_DATA_FOLDERS = "a list of folders"
_MEMORY = re.compile(r"[1-9]\d*(MB|GB)")


@dataclass(frozen=True, slots=True)
class Node:
    """The keys of one of `nodes`: those of its own."""

    address: str
    cdc_raw: str
    jmx_host: str = "127.0.0.1"
    jmx_port: int = 7199
    data_folders: tuple[str, ...] = ()


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
    jmx_host: str = "127.0.0.1"
    jmx_port: int = 7199
    data_folders: tuple[str, ...] = ()
    delete_cdc_raw: bool = False
    read_consistency: str = "ALL"
    nodes: tuple[Node, ...] = ()

    def each(self) -> tuple[Settings, ...]:
        """For each node what they would be if it were the only one."""
        if not self.nodes:
            return (self,)
        return tuple(
            replace(
                self,
                nodes=(),
                hosts=(node.address,),
                cdc_raw=node.cdc_raw,
                jmx_host=node.jmx_host,
                jmx_port=node.jmx_port,
                data_folders=node.data_folders,
            )
            for node in self.nodes
        )

    def wants(self, keyspace: str, table: str) -> bool:
        """Whether the patterns ask for this table."""
        name = f"{keyspace}.{table}"
        if any(p.startswith("!") and fnmatchcase(name, p[1:]) for p in self.tables):
            return False
        return any(fnmatchcase(name, p) for p in self.tables if not p.startswith("!"))


def parse_settings(options: SourceOptions) -> Settings:
    """Check the connector's own keys. Raises ConfigError naming the key."""
    found = dict(options.settings)
    keys = _Keys(f"sources.{options.name}", found)
    keys.only(tuple(name for name in Settings.__dataclass_fields__ if name != "source"))
    if ("user" in found) != ("password" in found):
        raise ConfigError(f"sources.{options.name}: user and password go together")
    nodes = tuple(_node(one) for one in keys.sections("nodes", "a list of nodes"))
    if len({node.address for node in nodes}) < len(nodes):
        raise ConfigError(f"sources.{options.name}.nodes: two have the same address")
    own = sorted(set(_OF_NODE) & set(found)) if nodes else []
    if own:
        raise ConfigError(
            f"sources.{options.name}: {', '.join(own)} beside nodes; each of nodes has its own"
        )
    default = tuple(node.address for node in nodes) or ("127.0.0.1",)
    return Settings(
        source=options.name,
        hosts=keys.names("hosts", default, "a list of addresses of nodes"),
        port=keys.port("port", 9042),
        user=keys.text("user", "a name"),
        password=keys.text("password", "a text"),
        tables=keys.patterns(),
        cdc_raw=keys.text("cdc_raw", _CDC_RAW),
        cassandra_home=keys.text("cassandra_home", "the folder of an installation"),
        helper_memory=keys.memory(),
        jmx_host=keys.text("jmx_host", "an address", "127.0.0.1"),
        jmx_port=keys.port("jmx_port", 7199),
        data_folders=keys.names("data_folders", (), _DATA_FOLDERS),
        delete_cdc_raw=keys.yes("delete_cdc_raw"),
        read_consistency=keys.one_of("read_consistency", CONSISTENCIES),
        nodes=nodes,
    )


def _node(keys: _Keys) -> Node:
    keys.only(tuple(Node.__dataclass_fields__))
    return Node(
        address=keys.text("address", "an address", None),
        cdc_raw=keys.text("cdc_raw", _CDC_RAW, None),
        jmx_host=keys.text("jmx_host", "an address", "127.0.0.1"),
        jmx_port=keys.port("jmx_port", 7199),
        data_folders=keys.names("data_folders", (), _DATA_FOLDERS),
    )


class _Keys:
    """Reads typed values out of one section of the configuration."""

    def __init__(self, path: str, found: Mapping[str, object]) -> None:
        self._path = path
        self._found = found

    def only(self, allowed: Sequence[str]) -> None:
        """Refuse all other keys."""
        unknown = sorted(set(self._found) - set(allowed))
        if unknown:
            names = ", ".join(f"{self._path}.{key}" for key in unknown)
            raise ConfigError(f"unknown key {names}; allowed there: {', '.join(allowed)}")

    def sections(self, key: str, expected: str) -> list[_Keys]:
        """Of a list of mappings; none where it is not there."""
        if key not in self._found:
            return []
        value = self._found[key]
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise self._wrong(key, expected)
        if not all(isinstance(item, Mapping) for item in value):
            raise self._wrong(key, expected)
        return [_Keys(f"{self._path}.{key}[{n}]", dict(item)) for n, item in enumerate(value)]

    def _wrong(self, key: str, expected: str) -> ConfigError:
        value = "" if key == "password" else f", found {self._found.get(key)!r}"
        return ConfigError(f"{self._path}.{key}: expected {expected}{value}")

    def text(self, key: str, expected: str, default: str | None = "") -> str:
        """`default` None: it must be there."""
        value = self._found.get(key, default)
        if not isinstance(value, str) or (key in self._found and not value):
            raise self._wrong(key, expected)
        return value

    def names(self, key: str, default: tuple[str, ...], expected: str) -> tuple[str, ...]:
        if key not in self._found:
            return default
        value = self._found[key]
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

    def one_of(self, key: str, allowed: Sequence[str]) -> str:
        """The first is the default."""
        value = self._found.get(key, allowed[0])
        if value not in allowed:
            raise self._wrong(key, f"one of {', '.join(allowed)}")
        return str(value)

    def memory(self) -> str:
        value = self._found.get("helper_memory", "512MB")
        if not isinstance(value, str) or not _MEMORY.fullmatch(value):
            raise self._wrong("helper_memory", "a size such as 512MB")
        return value
