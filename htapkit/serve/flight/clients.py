"""Who calls: logins by user and password, tokens, and what is remembered of a client.

`trust`: everybody is the source's own role, as one client. `source`: a user name and a password
(HTTP's Basic header), checked by logging in to the source, give a token (Bearer) for the calls
after it. Passwords are kept in memory as long as their token, because the source is asked under
the client's own role; nothing here is logged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from htapkit.errors import SourceRefused
from htapkit.model import Position
from htapkit.serve.flight.failures import diagnosis
from htapkit.serve.pgwire.auth import NotAllowed, NotAuthenticated
from htapkit.serve.pgwire.state import Last
from htapkit.spi import Credential, OwnRole, Password

Headers = Mapping[str, Sequence[str | bytes]]
_LOGIN_BYTES_MAX = 65_536
_log = logging.getLogger(__name__)


def header(headers: Headers, name: str) -> str:
    """The last value of a header; "" where there is none."""
    values = headers.get(name, ())
    value = values[-1] if values else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class Memory:
    """What a client has seen and done in one database, so that its answers never go back."""

    floors: tuple[Position, ...] = ()  # positions that an answer must cover
    relays: int = 0  # statements that the source has run: what they did or saw must be seen
    covered: int = 0  # as many of them are covered by the floors
    redefined_at: float | None = None  # when a statement that may have changed tables ended
    last: Last = field(default_factory=Last)

    @property
    def relayed(self) -> bool:
        """Whether the next answer must look at the source's head."""
        return self.relays > self.covered


class Client:
    """Somebody who is logged in. Compared by identity; thread-safe."""

    def __init__(self, user: str, credential: Credential) -> None:
        """Nothing is remembered yet."""
        self.user = user
        self.credential = credential
        self._lock = threading.Lock()
        self._memory: dict[str, Memory] = {}

    def memory(self, database: str) -> Memory:
        """What is remembered of a database."""
        with self._lock:
            return self._memory.get(database, Memory())

    def remember(self, database: str, change: Callable[[Memory], Memory]) -> None:
        """Change it."""
        with self._lock:
            self._memory[database] = change(self._memory.get(database, Memory()))


@dataclass(slots=True)
class _Token:
    client: Client
    login: bytes
    idle_until: float
    until: float


class Logins:
    """Who is logged in. Thread-safe."""

    def __init__(
        self,
        check: Callable[[Client, str], None],
        *,
        trust: bool,
        private: bool,
        count_max: int,
        idle_seconds: float,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`check` logs a client in to a database's source, or raises.

        `private`: nobody between the client and us can read what it sends. At `count_max` tokens
        the one that was idle the longest ends.
        """
        self._check = check
        self._trust = trust
        self._private = private
        self._count_max = count_max
        self._idle_seconds = idle_seconds
        self._seconds = seconds
        self._now = monotonic
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self._by_login: dict[bytes, str] = {}
        self._everybody = Client("", OwnRole())

    def enter(self, headers: Headers, database: str) -> tuple[Client, str]:
        """The client, and the token to tell it ("" = none). Raises NotAuthenticated, NotAllowed."""
        scheme, _, value = header(headers, "authorization").partition(" ")
        if self._trust:
            # Drivers that were given a user name expect a token, whatever it is good for.
            return self._everybody, "trust" if scheme.lower() == "basic" else ""
        if scheme.lower() == "bearer":
            return self._by_token(value), ""
        if scheme.lower() == "basic":
            return self._by_password(value, database)
        raise NotAuthenticated("log in with a user name and a password of the source")

    def _by_token(self, value: str) -> Client:
        now = self._now()
        with self._lock:
            token = self._tokens.get(value)
            if token is None or min(token.until, token.idle_until) <= now:
                raise NotAuthenticated("the login has expired, or never was; log in again")
            token.idle_until = now + self._idle_seconds
            self._tokens.move_to_end(value)
            return token.client

    def _by_password(self, value: str, database: str) -> tuple[Client, str]:
        if not self._private:
            raise NotAllowed(
                "a password is taken only over TLS, or on loopback: "
                "set servers.flight.tls_certificate and tls_key"
            )
        user, password = _user_and_password(value)
        # Clients that never use their token send this with each call: one login is enough.
        login = hmac.digest(self._key, f"{database}\0{user}\0{password}".encode(), hashlib.sha256)
        now = self._now()
        with self._lock:
            known = self._tokens.get(self._by_login.get(login, ""))
            if known is not None and min(known.until, known.idle_until) > now:
                known.idle_until = now + self._idle_seconds
                return known.client, self._by_login[login]
        client = Client(user, Password(password))
        try:
            self._check(client, database)
        except SourceRefused as refused:
            if not diagnosis(refused)[0].startswith("28"):
                raise
            why = f'password authentication failed for user "{user}"'
            _log.warning("login refused", extra={"user": user, "database": database, "why": why})
            raise NotAuthenticated(why) from refused
        return client, self._new(client, login, now)

    def _new(self, client: Client, login: bytes, now: float) -> str:
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._forget_old(now)
            while len(self._tokens) >= self._count_max:
                _, oldest = self._tokens.popitem(last=False)
                self._by_login.pop(oldest.login, None)
            token = _Token(client, login, now + self._idle_seconds, now + self._seconds)
            self._tokens[value] = token
            self._by_login[login] = value
        return value

    def sweep(self) -> None:
        """Forget what has expired, passwords with it."""
        with self._lock:
            self._forget_old(self._now())

    def _forget_old(self, now: float) -> None:
        for old in [v for v, t in self._tokens.items() if min(t.until, t.idle_until) <= now]:
            self._by_login.pop(self._tokens.pop(old).login, None)


def _user_and_password(value: str) -> tuple[str, str]:
    if len(value) > _LOGIN_BYTES_MAX:
        raise NotAuthenticated("the login is too long")
    padded = value + "=" * (-len(value) % 4)  # some drivers leave it out
    try:
        decoded = base64.b64decode(padded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise NotAuthenticated("the login is not a user name and a password") from error
    user, colon, password = decoded.partition(":")
    if not user or not colon or "\0" in decoded:
        raise NotAuthenticated("the login is not a user name and a password")
    return user, password
