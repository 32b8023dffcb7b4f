"""The Flight SQL port: commands in, streams of Arrow out.

It is given its databases and limits; it opens nothing but its own socket and, through `Origin`,
connections to the sources.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import flight

from htapkit.errors import ConfigError
from htapkit.serve.flight.clients import Logins
from htapkit.serve.flight.door import NAME, Door, EverybodyMayShakeHands, Visit
from htapkit.serve.flight.failures import told
from htapkit.serve.flight.handler import CLOSE, CREATE, Handler, Limits
from htapkit.serve.flight.sources import Sources
from htapkit.serve.flight.statement import Session
from htapkit.serve.flight.watch import Watch
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.tally import Tally

_SWEEP_SECONDS = 5.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FlightOptions:
    """How the port behaves. `trust` is for loopback only: everybody is the source's own role.

    Passwords are taken over TLS, and without it on loopback only.
    """

    host: str = "127.0.0.1"
    port: int = 6433  # 0: any free one
    trust: bool = False
    tls_certificate: bytes = b""  # PEM, with its chain; b"": no TLS
    tls_key: bytes = b""
    calls_max: int = 200
    logins_max: int = 1000
    login_idle_seconds: float = 3600.0
    login_seconds: float = 8 * 3600.0
    limits: Limits = field(default_factory=Limits)
    idle_connections_max: int = 4


class FlightServer:
    """The port. `start`, then `stop`."""

    def __init__(
        self, databases: Mapping[str, Database], options: FlightOptions, tally: Tally | None = None
    ) -> None:
        """`databases` by their names; a call that names none means the first.

        `tally` counts errors. Raises ConfigError.
        """
        counted = tally or Tally()
        loopback = options.host in {"127.0.0.1", "localhost", "::1"}
        if options.trust and not loopback:
            raise ConfigError(
                f"servers.flight.listen: auth: trust is for loopback only, found {options.host}"
            )
        self._options = options
        self._sources = Sources(databases, options.idle_connections_max)
        self._watch = Watch()
        self._logins = Logins(
            self._sources.check,
            trust=options.trust,
            private=loopback or bool(options.tls_certificate),
            count_max=options.logins_max,
            idle_seconds=options.login_idle_seconds,
            seconds=options.login_seconds,
        )
        self._door = Door(self._logins, tuple(databases), options.calls_max, counted)
        self._handler = Handler(databases, options.limits, self._sources, self._watch, counted)
        self._server: _Server | None = None
        self._stopping = threading.Event()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        return int(self._server.port)

    @property
    def calls(self) -> int:
        """How many are under way."""
        return self._door.calls

    def start(self) -> None:
        """Listen. Raises ConfigError when the address is taken."""
        options = self._options
        host = f"[{options.host}]" if ":" in options.host else options.host
        scheme = "grpc+tls" if options.tls_certificate else "grpc+tcp"
        tls = [(options.tls_certificate, options.tls_key)] if options.tls_certificate else None
        try:
            self._server = _Server(
                f"{scheme}://{host}:{options.port}", tls, self._door, self._handler
            )
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"servers.flight.listen: {host}:{options.port}: {error}") from error
        threading.Thread(target=self._sweep, name="flight sweep", daemon=True).start()

    def stop(self) -> None:
        """Close the port, and end all calls.

        One that cannot be stopped ends when the store or the source ends it; it is not waited for.
        """
        self._stopping.set()
        self._watch.stop_all("the server is being stopped")
        if self._server is not None:
            ending = threading.Thread(target=self._server.shutdown, name="flight end", daemon=True)
            ending.start()
            ending.join(_STOP_SECONDS)
        self._watch.stop()
        self._sources.close()

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_SECONDS):
            self._sources.sweep()
            self._logins.sweep()


class _Server(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """pyarrow's server: from its calls to ours."""

    def __init__(
        self, location: str, tls: list[tuple[bytes, bytes]] | None, door: Door, handler: Handler
    ) -> None:
        """Listens at once."""
        self._handler = handler
        self.tally = handler.tally
        super().__init__(
            location,
            auth_handler=EverybodyMayShakeHands(),
            tls_certificates=tls,
            middleware={NAME: door},
        )

    @told
    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        return self._handler.info(context, _session(context), descriptor)

    @told
    def get_schema(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.SchemaResult:
        schema = self._handler.schema(context, _session(context), descriptor)
        return flight.SchemaResult(schema)

    @told
    def do_get(
        self, context: flight.ServerCallContext, ticket: flight.Ticket
    ) -> flight.FlightDataStream:
        return self._handler.stream(context, _session(context), ticket.ticket)

    @told
    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        self._handler.put(context, _session(context), descriptor, reader, writer)

    @told
    def do_action(
        self, context: flight.ServerCallContext, action: flight.Action
    ) -> list[flight.Result]:
        return self._handler.act(context, _session(context), action)

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:  # noqa: ARG002
        return [(CREATE, "Prepare a statement."), (CLOSE, "Forget a prepared statement.")]


def _session(context: flight.ServerCallContext) -> Session:
    visit: Visit = context.get_middleware(NAME)
    return visit.session()
