"""Typed values out of a configuration: a source's section, or an agent's own file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from htapkit.errors import ConfigError
from htapkit_cassandra.link import host_and_port

_OF_MACHINE = ("cdc_raw", "jmx_host", "jmx_port", "data_folders")
_SECRET = {"password", "agent_token"}
_MEMORY = re.compile(r"[1-9]\d*(MB|GB)")


class Keys:
    """Reads typed values out of one section. Each raises ConfigError naming its key."""

    def __init__(self, path: str, found: Mapping[str, object]) -> None:
        """`path` is how messages name the section."""
        self._path = path
        self._found = found

    def only(self, allowed: Sequence[str]) -> None:
        """Refuse all other keys."""
        unknown = sorted(set(self._found) - set(allowed))
        if unknown:
            names = ", ".join(f"{self._path}.{key}" for key in unknown)
            raise ConfigError(f"unknown key {names}; allowed there: {', '.join(allowed)}")

    def sections(self, key: str, expected: str) -> list[Keys]:
        """Of a list of mappings; none where it is not there."""
        if key not in self._found:
            return []
        value = self._found[key]
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise self._wrong(key, expected)
        if not all(isinstance(item, Mapping) for item in value):
            raise self._wrong(key, expected)
        return [Keys(f"{self._path}.{key}[{n}]", dict(item)) for n, item in enumerate(value)]

    def _wrong(self, key: str, expected: str) -> ConfigError:
        value = "" if key in _SECRET else f", found {self._found.get(key)!r}"
        return ConfigError(f"{self._path}.{key}: expected {expected}{value}")

    def text(self, key: str, expected: str, default: str | None = "") -> str:
        """`default` None: it must be there."""
        value = self._found.get(key, default)
        if not isinstance(value, str) or (key in self._found and not value):
            raise self._wrong(key, expected)
        return value

    def names(self, key: str, default: tuple[str, ...], expected: str) -> tuple[str, ...]:
        """A list of texts."""
        if key not in self._found:
            return default
        value = self._found[key]
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise self._wrong(key, expected)
        if not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, expected)
        return tuple(value)

    def patterns(self) -> tuple[str, ...]:
        """Those of tables: some that choose, and perhaps some that exclude."""
        expected = 'a list of patterns such as ["demo.*", "!demo.audit_*"]'
        value = self.names("tables", ("*.*",), expected)
        if not all("." in item for item in value) or all(item.startswith("!") for item in value):
            raise self._wrong("tables", expected)
        return value

    def port(self, key: str, default: int) -> int:
        """Of TCP."""
        value = self._found.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
            raise self._wrong(key, "a port number")
        return value

    def count(self, key: str, default: int, most: int) -> int:
        """A number from 1 on."""
        value = self._found.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise self._wrong(key, f"a number from 1 to {most}")
        return value

    def agent(self) -> str:
        """Where one is, which then says what its machine has itself."""
        value = self.text("agent", "host:port of an agent")
        if value and host_and_port(value) is None:
            raise self._wrong("agent", "host:port of an agent")
        own = sorted(set(_OF_MACHINE) & set(self._found)) if value else []
        if own:
            raise ConfigError(
                f"{self._path}: {', '.join(own)} beside agent; the agent has its own settings"
            )
        return value

    def yes(self, key: str) -> bool:
        """Whether; false where it is not there."""
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
        """A heap's size, as it is written."""
        value = self._found.get("helper_memory", "512MB")
        if not isinstance(value, str) or not _MEMORY.fullmatch(value):
            raise self._wrong("helper_memory", "a size such as 512MB")
        return value
