"""What a DSN says of a server and of passwords, with libpq's defaults, for the bare login.

Reads the environment and the password file; connects to nothing.
"""

from __future__ import annotations

import stat
import stringprep
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens: a host, or a directory with its socket."""

    host: str
    port: int
    hostaddr: str = ""

    @property
    def local(self) -> bool:
        """Whether it is a Unix socket."""
        return self.host.startswith(("/", "@"))


@dataclass(frozen=True, slots=True)
class Server:
    """What a DSN says, with libpq's defaults."""

    addresses: tuple[Address, ...]
    user: str
    database: str
    sslmode: str
    settings: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_dsn(cls, dsn: str) -> Server:
        """Read a DSN, the environment, and libpq's service file."""
        defaults = {
            option.keyword.decode(): option.val.decode()
            for option in pq.Conninfo.get_defaults()
            if option.val is not None
        }
        given = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value}
        settings = {**defaults, **given}
        hosts = (settings.get("host") or "").split(",")
        numbers = (settings.get("hostaddr") or "").split(",")
        ports = (settings.get("port") or "5432").split(",")
        count = max(len(hosts), len(numbers))
        addresses = tuple(
            Address(
                _at(hosts, index) or _at(numbers, index) or "localhost",
                int(_at(ports, index) or 5432),
                _at(numbers, index),
            )
            for index in range(count)
        )
        user = settings.get("user") or ""
        database = settings.get("dbname") or user
        return cls(addresses, user, database, settings.get("sslmode") or "prefer", settings)

    def password(self) -> str:
        """From the DSN, PGPASSWORD or the password file; "" where there is none."""
        given = self.settings.get("password")
        if given:
            return given
        path = Path(self.settings.get("passfile") or "~/.pgpass").expanduser()
        for address in self.addresses:
            host = "localhost" if address.local else address.host
            wanted = (host, str(address.port), self.database, self.user)
            for found in _password_file(path):
                if all(f in {"*", w} for f, w in zip(found[:4], wanted, strict=True)):
                    return found[4]
        return ""


def _at(values: list[str], index: int) -> str:
    return values[index] if index < len(values) else values[0] if len(values) == 1 else ""


def _password_file(path: Path) -> Iterator[list[str]]:
    """Lines of host:port:database:user:password. A file that others may read does not count."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        parts: list[str] = []
        current, escaped = "", False
        for letter in line:
            if escaped or letter not in {"\\", ":"} or (letter == ":" and len(parts) == 4):
                current, escaped = current + letter, False
            elif letter == "\\":
                escaped = True
            else:
                parts.append(current)
                current = ""
        if len(parts) == 4 and not line.startswith("#"):
            yield [*parts, current]


def sasl_prepared(password: str) -> str:
    """The password in SASLprep form.

    As it is where that form does not exist, as PostgreSQL does.
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter
        for letter in password
        if not stringprep.in_table_b1(letter)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    if not prepared or any(table(letter) for letter in prepared for table in prohibited):
        return password
    right = [stringprep.in_table_d1(letter) for letter in prepared]
    if any(right) and (
        any(stringprep.in_table_d2(letter) for letter in prepared) or not (right[0] and right[-1])
    ):
        return password
    return prepared
