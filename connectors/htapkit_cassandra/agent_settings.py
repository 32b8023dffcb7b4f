"""What an agent's own small file says, checked. No message holds the token."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from htapkit.errors import ConfigError
from htapkit_cassandra.configured import Keys
from htapkit_cassandra.here import Here
from htapkit_cassandra.link import host_and_port, is_loopback, shown_address

TOKEN_VARIABLE = "HTAPKIT_AGENT_TOKEN"  # noqa: S105 - a name
TOKEN_LETTERS_MIN = 16
TOKEN_LETTERS_MAX = 1000
DEFAULT_LISTEN = "127.0.0.1:9142"
READERS_MAX = 64
_PEM = "a PEM file"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The keys of the file; paths are whole."""

    host: str
    port: int
    token: str = field(repr=False)
    cdc_raw: str
    folder: Path
    tls_certificate: str = ""
    tls_key: str = ""
    plain: bool = False
    cassandra_home: str = ""
    helper_memory: str = "512MB"
    jmx_host: str = "127.0.0.1"
    jmx_port: int = 7199
    data_folders: tuple[str, ...] = ()
    delete_cdc_raw: bool = False
    readers: int = 4

    @property
    def listen(self) -> str:
        """As it is written."""
        return shown_address(self.host, self.port)

    def here(self, folder: Path) -> Here:
        """The node's files on our machine, with a folder for the readers' own."""
        return Here(
            cdc_raw=self.cdc_raw,
            cassandra_home=self.cassandra_home,
            memory=self.helper_memory,
            jmx=f"{self.jmx_host}:{self.jmx_port}",
            data_folders=self.data_folders,
            folder=folder,
            deletes=self.delete_cdc_raw,
        )


def load(path: Path, environment: Mapping[str, str] = os.environ) -> AgentSettings:
    """Read the file. Raises ConfigError naming the key."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected keys, found {type(found).__name__}")
    return parse(found, path, environment)


def parse(found: Mapping[str, object], path: Path, environment: Mapping[str, str]) -> AgentSettings:
    """Check the keys; what is a relative path is beside the file. Raises ConfigError."""
    keys = Keys(path.name, found)
    own = {"host", "port", "token"}
    names = [name for name in AgentSettings.__dataclass_fields__ if name not in own]
    keys.only(["listen", "token_file", *names])
    listen = keys.text("listen", "host:port", DEFAULT_LISTEN)
    at = host_and_port(listen)
    if at is None:
        raise ConfigError(f"{path.name}.listen: expected host:port, found {listen!r}")
    certificate, key = (
        _beside(path, keys.text(name, _PEM)) for name in ("tls_certificate", "tls_key")
    )
    if bool(certificate) != bool(key):
        raise ConfigError(f"{path.name}: tls_certificate and tls_key go together")
    plain = keys.yes("plain")
    if not (is_loopback(at[0]) or certificate or plain):
        raise ConfigError(
            f"{path.name}.listen: {listen} is not on loopback, and whoever reads along would have "
            "the token and all data; set tls_certificate and tls_key, or listen on 127.0.0.1 and "
            "use a tunnel, or say `plain: true` where something else encrypts"
        )
    return AgentSettings(
        host=at[0],
        port=at[1],
        token=_token(keys, path, environment),
        cdc_raw=keys.text("cdc_raw", "the node's cdc_raw_directory", None),
        folder=Path(_beside(path, keys.text("folder", "a folder", "cassandra-agent"))),
        tls_certificate=certificate,
        tls_key=key,
        plain=plain,
        cassandra_home=keys.text("cassandra_home", "the folder of an installation"),
        helper_memory=keys.memory(),
        jmx_host=keys.text("jmx_host", "an address", "127.0.0.1"),
        jmx_port=keys.port("jmx_port", 7199),
        data_folders=keys.names("data_folders", (), "a list of folders"),
        delete_cdc_raw=keys.yes("delete_cdc_raw"),
        readers=keys.count("readers", 4, READERS_MAX),
    )


def _token(keys: Keys, path: Path, environment: Mapping[str, str]) -> str:
    name = keys.text("token_file", "a file with the token")
    if name:
        file = Path(_beside(path, name))
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name}.token_file: cannot read {file}: {error}") from error
    else:
        token = environment.get(TOKEN_VARIABLE, "")
    where = f"{path.name}.token_file" if name else f"the environment's {TOKEN_VARIABLE}"
    if not TOKEN_LETTERS_MIN <= len(token) <= TOKEN_LETTERS_MAX:
        raise ConfigError(
            f"{where}: expected a token of {TOKEN_LETTERS_MIN} to {TOKEN_LETTERS_MAX} characters, "
            f"found {len(token)}; `openssl rand -hex 32` makes one"
        )
    return token


def _beside(path: Path, name: str) -> str:
    return str(path.absolute().parent / name) if name else ""
