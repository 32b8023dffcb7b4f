"""The sink's own keys, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

from htapkit.errors import ConfigError
from htapkit.model import TableId
from htapkit.sinks import SinkOptions

FORMATS = ("json", "arrow")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_OURS = re.compile(
    r"transactional\.id|enable\.idempotence|acks|request\.required\.acks|partitioner|"
    r"bootstrap\.servers|isolation\.level|transaction\.timeout\.ms|.*_cb|group\.id|"
    r"allow\.auto\.create\.topics|max\.in\.flight(\.requests\.per\.connection)?"
)
_TIME_SECONDS_MAX = 900  # what brokers allow, unless they are told otherwise


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of one Kafka sink, checked."""

    sink: str
    source: str
    brokers: str
    topic: str = "{source}.{schema}.{table}"
    format: str = "json"
    tombstones: bool = True
    create_topics: bool = True
    partitions: int = 1
    replication: int = -1  # the broker's own default
    transaction_seconds: int = _TIME_SECONDS_MAX
    client: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def transactional_id(self) -> str:
        """Of the producer: whoever claims it ends what another left open."""
        return f"htapkit.{self.source}.{self.sink}"

    @property
    def positions_topic(self) -> str:
        """Where the feed's progress is."""
        return f"htapkit.{self.source}.{self.sink}.positions"

    @property
    def shared(self) -> bool:
        """Whether several tables go to one topic."""
        fields = {name for _, name, _, _ in Formatter().parse(self.topic)}
        return not {"schema", "table"} <= fields

    def topic_of(self, table: TableId) -> str:
        """Where a table's events go; what a topic's name may not have becomes `_`."""
        name = self.topic.format(source=table.source, schema=table.schema, table=table.name)
        return re.sub(r"[^a-zA-Z0-9._-]", "_", name)


def parse_settings(options: SinkOptions) -> Settings:
    """Check the keys. Raises ConfigError naming the key, never a value of `client`."""
    found = dict(options.settings)
    allowed = tuple(n for n in Settings.__dataclass_fields__ if n not in {"sink", "source"})
    unknown = sorted(set(found) - set(allowed))
    if unknown:
        names = ", ".join(f"sinks.{options.name}.{key}" for key in unknown)
        raise ConfigError(f"unknown key {names}; allowed there: {', '.join(allowed)}")
    keys = _Keys(options.name, found)
    return Settings(
        sink=options.name,
        source=options.source,
        brokers=keys.brokers(),
        topic=keys.topic(),
        format=keys.format(),
        tombstones=keys.flag("tombstones"),
        create_topics=keys.flag("create_topics"),
        partitions=keys.number("partitions", 1, (1, 10_000)),
        replication=keys.number("replication", -1, (-1, 32)),
        transaction_seconds=keys.number("transaction_seconds", _TIME_SECONDS_MAX, (10, 86_400)),
        client=keys.client(),
    )


class _Keys:
    """Reads typed values out of the configuration's section of one sink."""

    def __init__(self, sink: str, found: Mapping[str, object]) -> None:
        self._sink = sink
        self._found = found

    def _wrong(self, key: str, expected: str) -> ConfigError:
        found = f", found {self._found[key]!r}" if key in self._found else ""
        return ConfigError(f"sinks.{self._sink}.{key}: expected {expected}{found}")

    def brokers(self) -> str:
        value = self._found.get("brokers")
        if not isinstance(value, str) or not re.fullmatch(r"[^\s,:]+:\d+(,[^\s,:]+:\d+)*", value):
            raise self._wrong("brokers", "host:port, or several with commas between them")
        return value

    def topic(self) -> str:
        value = self._found.get("topic", "{source}.{schema}.{table}")
        wrong = self._wrong("topic", "a name with {source}, {schema} and {table} in it, or none")
        if not isinstance(value, str):
            raise wrong
        try:
            shown = value.format(source="s", schema="s", table="t")
        except (KeyError, IndexError, ValueError):
            raise wrong from None
        if not _TOPIC.fullmatch(shown):
            raise wrong
        return value

    def format(self) -> str:
        value = self._found.get("format", "json")
        if value not in FORMATS:
            raise self._wrong("format", " or ".join(FORMATS))
        return str(value)

    def flag(self, key: str) -> bool:
        value = self._found.get(key, True)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def number(self, key: str, default: int, bounds: tuple[int, int]) -> int:
        value = self._found.get(key, default)
        low, high = bounds
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, f"a number from {low} to {high}")
        return value

    def client(self) -> Mapping[str, str]:
        value = self._found.get("client", {})
        where = f"sinks.{self._sink}.client"
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected keys of librdkafka, such as security.protocol")
        for key in value:
            if _OURS.fullmatch(str(key)):
                raise ConfigError(f"{where}.{key}: htapkit sets it itself; remove it")
        return {str(key): str(each) for key, each in value.items()}
