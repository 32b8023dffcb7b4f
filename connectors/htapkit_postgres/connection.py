"""The source's own settings, connections to it, and the one place where its errors become ours.

A message from here never contains a password: neither the DSN nor what libpq says about parsing
it. Nothing here changes the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from htapkit.errors import ConfigError, PositionLost, SourceError, SourceRefused, SourceUnavailable
from htapkit.spi import SourceOptions

Connection = psycopg.Connection[tuple[object, ...]]

APPLICATION = "htapkit"
CONNECT_SECONDS_MAX = 10
_WAIT_INTERVAL = 0.1  # psycopg's own

# Sessions print values in one form only, and nothing set for the role may change what we see.
OUTPUT_SETTINGS: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "search_path": "pg_catalog",
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

# A dead network is noticed within about half a minute, on every connection.
NETWORK_PARAMETERS: Mapping[str, str] = {
    "connect_timeout": str(CONNECT_SECONDS_MAX),
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MEMORY = re.compile(r"\d+(kB|MB|GB)")
_NOT_NOW = re.compile(
    r"starting up|shutting down|recovery mode|not yet accepting|too many (clients|connections)"
    r"|connection slots|terminating connection|server closed the connection"
)
_LOST = re.compile(
    r"no longer (access|get)|has been invalidated|exceeded the maximum reserved size"
)
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58", "40")
_UNAVAILABLE_STATES = {"55006", "55P03", "25006"}
_NO_RIGHT = "42501"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of one PostgreSQL source, checked."""

    source: str
    dsn: str = field(repr=False)
    tables: tuple[str, ...]
    slot: str
    publication: str
    append_only: tuple[str, ...] = ()
    create_publication: bool = True
    failover: bool = True
    decoding_memory: str = "256MB"

    @property
    def publications(self) -> tuple[str, str]:
        """The publication of tables with an identity, and the one of append-only tables.

        Two, because a table without identity in a publication of updates would make its own
        UPDATE and DELETE fail at the source.
        """
        return self.publication, f"{self.publication[:56]}_append"

    def wants(self, schema: str, name: str) -> bool:
        """Whether the patterns ask for this table."""
        return matches(self.tables, f"{schema}.{name}")

    def names(self, schema: str, name: str) -> bool:
        """Whether a pattern without wildcards names this very table."""
        return f"{schema}.{name}" in self.tables

    def wants_append_only(self, schema: str, name: str) -> bool:
        """Whether the table may be mirrored for inserts and truncates only."""
        return matches(self.append_only, f"{schema}.{name}")


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a pattern matches `schema.name` and no pattern with `!` does."""
    if any(p.startswith("!") and fnmatchcase(name, p[1:]) for p in patterns):
        return False
    return any(fnmatchcase(name, p) for p in patterns if not p.startswith("!"))


def parse_settings(options: SourceOptions) -> Settings:
    """Check the connector's own keys. Raises ConfigError naming the key."""
    found = dict(options.settings)
    allowed = tuple(name for name in Settings.__dataclass_fields__ if name != "source")
    unknown = sorted(set(found) - set(allowed))
    if unknown:
        names = ", ".join(f"sources.{options.name}.{key}" for key in unknown)
        raise ConfigError(f"unknown key {names}; allowed there: {', '.join(allowed)}")
    keys = _Keys(options.name, found)
    name = keys.name("publication", f"htapkit_{options.name}"[:63])
    return Settings(
        source=options.name,
        dsn=keys.dsn(),
        tables=keys.patterns("tables", ("*.*",)),
        slot=keys.name("slot", f"htapkit_{options.name}"[:63]),
        publication=name,
        append_only=keys.patterns("append_only", ()),
        create_publication=keys.flag("create_publication"),
        failover=keys.flag("failover"),
        decoding_memory=keys.memory("decoding_memory", "256MB"),
    )


class _Keys:
    """Reads typed values out of the configuration's section of one source."""

    def __init__(self, source: str, found: Mapping[str, object]) -> None:
        self._source = source
        self._found = found

    def _wrong(self, key: str, expected: str) -> ConfigError:
        value = "" if key == "dsn" else f", found {self._found.get(key)!r}"
        return ConfigError(f"sources.{self._source}.{key}: expected {expected}{value}")

    def dsn(self) -> str:
        value = self._found.get("dsn")
        wrong = self._wrong(
            "dsn", "postgresql://user@host:5432/database, or host=… port=5432 dbname=…"
        )
        if not isinstance(value, str) or not value:
            raise wrong
        try:
            found = conninfo_to_dict(value)
        except psycopg.Error:
            # libpq quotes parts of the DSN, and a part may be the password.
            raise wrong from None
        ports = str(found.get("port") or "").split(",")
        if not all(not port or (port.isdigit() and 0 < int(port) < 65536) for port in ports):
            raise wrong
        return value

    def patterns(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._found.get(key, default)
        expected = 'a list of patterns such as ["public.*", "!public.audit_*"]'
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong(key, expected)
        if not all(isinstance(item, str) and "." in item for item in value):
            raise self._wrong(key, expected)
        if key == "tables" and not any(not item.startswith("!") for item in value):
            raise self._wrong(key, expected + ", at least one of them without '!'")
        return tuple(value)

    def name(self, key: str, default: str) -> str:
        value = self._found.get(key, default)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self._wrong(key, "a name of lower-case letters, digits and underscores")
        return value

    def flag(self, key: str) -> bool:
        value = self._found.get(key, True)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def memory(self, key: str, default: str) -> str:
        value = self._found.get(key, default)
        if not isinstance(value, str) or not _MEMORY.fullmatch(value):
            raise self._wrong(key, "a size as PostgreSQL writes it, such as 256MB")
        return value


def conninfo(
    settings: Settings, *, more: Mapping[str, str] | None = None, **parameters: str
) -> str:
    """The DSN with our network rules, our output settings (and `more` of them) and `parameters`."""
    given = conninfo_to_dict(settings.dsn)
    options = [str(given.get("options") or "")]
    options += [f"-c {key}={value}" for key, value in {**OUTPUT_SETTINGS, **(more or {})}.items()]
    network = {key: value for key, value in NETWORK_PARAMETERS.items() if key not in given}
    fixed = {"client_encoding": "UTF8", "application_name": f"{APPLICATION} {settings.source}"}
    return make_conninfo(
        settings.dsn, **{**network, **fixed, "options": " ".join(options).strip(), **parameters}
    )


class Impatient(Connection):
    """A connection that waits for an answer for so long at most, and is of no use afterwards."""

    answer_seconds: float | None = None

    def wait(
        self, gen: PQGen[RV], interval: float = _WAIT_INTERVAL, timeout: float | None = None
    ) -> RV:
        """See psycopg.Connection. Raises psycopg.OperationalError at the limit."""
        return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)


def connect(settings: Settings, answer_seconds: float | None = None) -> Impatient:
    """An autocommit connection for catalog reads and for attaching. Raises SourceError.

    It waits for each answer for `answer_seconds` at most; None: for as long as it takes.
    """
    with translated(settings, "connect"):
        # A lock that a user's DDL holds must not hold us, nor queue everybody behind us.
        connection = Impatient.connect(
            conninfo(settings, more={"lock_timeout": "10s"}),
            autocommit=True,
            prepare_threshold=None,
        )
    connection.answer_seconds = answer_seconds
    return connection


@contextmanager
def translated(settings: Settings, doing: str) -> Iterator[None]:
    """Turn psycopg's errors inside into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(settings, doing, error) from None


def translate(settings: Settings, doing: str, error: psycopg.Error) -> SourceError:
    """Our error for one of psycopg's."""
    state = error.sqlstate or ""
    message = error.diag.message_primary or str(error)
    return source_error(settings, doing, state, message)


def source_error(settings: Settings, doing: str, state: str, message: str) -> SourceError:
    """Our error for what the server (or libpq, then without SQLSTATE) said."""
    text = f"{settings.source}: cannot {doing}: {_scrub(settings, message)}"
    if _LOST.search(message):
        return PositionLost(f"{text}; the tables are copied again on a new slot")
    unavailable = state.startswith(_UNAVAILABLE_CLASSES) or state in _UNAVAILABLE_STATES
    if not state:
        # libpq has no SQLSTATE for a failed login: a server that said FATAL did answer.
        unavailable = "FATAL" not in message or _NOT_NOW.search(message) is not None
    if unavailable:
        return SourceUnavailable(text)
    hint = "" if state else "; check the user, the password, the database and pg_hba.conf"
    if state == _NO_RIGHT or "wal_level" in message:
        hint = "; `htapkit check` has the SQL that mends it"
    return SourceRefused(text + (f" (SQLSTATE {state})" if state else "") + hint)


def _scrub(settings: Settings, message: str) -> str:
    """One line, without the password."""
    password = conninfo_to_dict(settings.dsn).get("password")
    line = " ".join(message.split())
    return line.replace(str(password), "…") if password else line


def literal(text: str) -> str:
    """A string constant, for the replication commands that take no parameters."""
    return "'" + text.replace("'", "''") + "'"
