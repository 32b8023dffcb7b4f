"""The way in of every call: who calls, how many call at once, and what the headers ask for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pyarrow import flight

from htapkit.errors import LimitReached
from htapkit.serve.flight.clients import Client, Headers, Logins, header
from htapkit.serve.flight.failures import told
from htapkit.serve.flight.statement import Session
from htapkit.serve.pgwire.server import NoSuchDatabase
from htapkit.serve.pgwire.settings import OPTIONS, Options
from htapkit.serve.pgwire.tally import Tally

NAME = "htapkit"
"""Under which a call finds its `Visit`."""

_PREFIX = "htapkit-"


class TooManyCalls(LimitReached):
    """limits.client_connections is reached."""

    sqlstate = "53300"


class Visit(flight.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    """One call."""

    def __init__(self, door: Door, client: Client, token: str, headers: Headers) -> None:
        """`token` is told to the client, if there is one."""
        self._door = door
        self._token = token
        self._headers = headers
        self.client = client

    def session(self) -> Session:
        """What the call says of itself. Raises NoSuchDatabase, WrongSetting."""
        options = Options()
        for option in OPTIONS:
            value = header(self._headers, _PREFIX + option.replace("_", "-"))
            if value:
                options = options.set(option, value)
        return Session(self.client, self._door.database(self._headers), options)

    def sending_headers(self) -> dict[str, str]:
        """The token of a new login."""
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def call_completed(self, exception: BaseException | None) -> None:  # noqa: ARG002 - pyarrow's
        """The call has ended, with its stream."""
        self._door.leave()


class Door(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # the same
    """Lets calls in. Thread-safe."""

    def __init__(
        self, logins: Logins, databases: Sequence[str], calls_max: int, tally: Tally
    ) -> None:
        """A call that names no database means the first."""
        self.tally = tally
        self._logins = logins
        self._databases = databases
        self._calls_max = calls_max
        self._lock = threading.Lock()
        self._calls = 0

    @property
    def calls(self) -> int:
        """How many are under way."""
        with self._lock:
            return self._calls

    @told
    def start_call(self, info: object, headers: Headers) -> Visit:  # noqa: ARG002 - pyarrow's
        """Who it is. Raises Flight's errors."""
        with self._lock:
            if self._calls >= self._calls_max:
                raise TooManyCalls("too many calls at once (limits.client_connections)")
            self._calls += 1
        try:
            client, token = self._logins.enter(headers, self.database(headers))
        except BaseException:
            self.leave()
            raise
        return Visit(self, client, token, headers)

    def leave(self) -> None:
        """A call has ended."""
        with self._lock:
            self._calls -= 1

    def database(self, headers: Headers) -> str:
        """The database that a call names. Raises NoSuchDatabase."""
        name = header(headers, "database") or self._databases[0]
        if name not in self._databases:
            raise NoSuchDatabase(f'database "{name}" does not exist')
        return name


class EverybodyMayShakeHands(flight.ServerAuthHandler):  # type: ignore[misc]  # the same
    """Answers Flight's handshake, which drivers use to send a password: the door has checked it."""

    def authenticate(self, outgoing: object, incoming: object) -> None:
        """Nothing is left to do."""

    def is_valid(self, token: bytes) -> bytes:  # noqa: ARG002 - pyarrow's
        """Clients are known by their headers, not by this."""
        return b""
