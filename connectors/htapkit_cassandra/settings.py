"""What the configuration says of one Cassandra source, checked. No message holds the password."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from htapkit.errors import ConfigError
from htapkit.spi import SourceOptions
from htapkit_cassandra.configured import Keys
from htapkit_cassandra.link import host_and_port, is_loopback

_OF_NODE = ("hosts", "cdc_raw", "jmx_host", "jmx_port", "data_folders", "agent")
CONSISTENCIES = ("ALL", "QUORUM", "LOCAL_QUORUM", "ONE", "LOCAL_ONE")
WRITE_CONSISTENCIES = ("ONE", "LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL")
SNAPSHOTS = ("auto", "files", "cql")
_CDC_RAW = "the node's cdc_raw_directory"
_DATA_FOLDERS = "a list of folders"


@dataclass(frozen=True, slots=True)
class Node:
    """The keys of one of `nodes`: those of its own."""

    address: str
    cdc_raw: str = ""
    jmx_host: str = "127.0.0.1"
    jmx_port: int = 7199
    data_folders: tuple[str, ...] = ()
    agent: str = ""
    agent_token: str = field(default="", repr=False)


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
    snapshot: str = "auto"
    read_consistency: str = "ALL"
    write_consistency: str = "ONE"  # the weakest at which anything is written
    nodes: tuple[Node, ...] = ()
    agent: str = ""  # host:port, "" = the node's files are on this machine
    agent_token: str = field(default="", repr=False)
    agent_ca: str = ""
    agent_plain: bool = False

    @property
    def jmx(self) -> str:
        """Where the node is asked over JMX: host:port."""
        return f"{self.jmx_host}:{self.jmx_port}"

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
                agent=node.agent,
                agent_token=node.agent_token or self.agent_token,
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
    keys = Keys(f"sources.{options.name}", found)
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
    made = Settings(
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
        snapshot=keys.one_of("snapshot", SNAPSHOTS),
        read_consistency=keys.one_of("read_consistency", CONSISTENCIES),
        write_consistency=keys.one_of("write_consistency", WRITE_CONSISTENCIES),
        nodes=nodes,
        agent=keys.agent(),
        agent_token=keys.text("agent_token", "a text"),
        agent_ca=keys.text("agent_ca", "a PEM file"),
        agent_plain=keys.yes("agent_plain"),
    )
    for one in made.each():
        _check_agent(one)
    return made


def _check_agent(one: Settings) -> None:
    """Raises ConfigError where its token would be missing, or be seen by others."""
    if not one.agent:
        return
    where, at = f"sources.{one.source}", host_and_port(one.agent)
    if not one.agent_token:
        raise ConfigError(f"{where}.agent_token: the agent at {one.agent} lets nobody in without")
    if not (one.agent_ca or one.agent_plain or (at is not None and is_loopback(at[0]))):
        raise ConfigError(
            f"{where}.agent_ca: without it the token and all data go to {one.agent} in plain text; "
            "set it, or use a tunnel, or say `agent_plain: true` where something else encrypts"
        )


def _node(keys: Keys) -> Node:
    keys.only(tuple(Node.__dataclass_fields__))
    agent = keys.agent()
    return Node(
        address=keys.text("address", "an address", None),
        cdc_raw=keys.text("cdc_raw", _CDC_RAW, "" if agent else None),
        jmx_host=keys.text("jmx_host", "an address", "127.0.0.1"),
        jmx_port=keys.port("jmx_port", 7199),
        data_folders=keys.names("data_folders", (), _DATA_FOLDERS),
        agent=agent,
        agent_token=keys.text("agent_token", "a text"),
    )
