"""The ports as the configuration asks for them."""

from __future__ import annotations

from collections.abc import Mapping

from htapkit.config import Config
from htapkit.errors import ConfigError, HtapkitError, LimitReached, MomentGone, QueryCancelled
from htapkit.metrics import Metrics
from htapkit.model import Route
from htapkit.serve.flight import FlightOptions, FlightServer
from htapkit.serve.pgwire import Database, PgwireOptions, PgwireServer, Tally, load_tls


def pgwire_options(config: Config) -> PgwireOptions:
    """The PostgreSQL port. Raises ConfigError for a certificate that is none."""
    wanted = config.servers.pgwire
    host, port = address(wanted.listen)
    tls = None
    if wanted.tls_certificate is not None and wanted.tls_key is not None:
        tls = load_tls(wanted.tls_certificate, wanted.tls_key)
    return PgwireOptions(
        host=host,
        port=port,
        trust=wanted.auth == "trust",
        tls=tls,
        clients_max=config.limits.client_connections,
    )


def make_flight(
    config: Config, databases: Mapping[str, Database], tally: Tally
) -> FlightServer | None:
    """The Flight SQL port, where one is configured. Raises ConfigError."""
    wanted = config.servers.flight
    if wanted is None:
        return None
    host, port = address(wanted.listen)
    try:
        certificate, key = (
            path.read_bytes() if path is not None else b""
            for path in (wanted.tls_certificate, wanted.tls_key)
        )
    except OSError as error:
        raise ConfigError(f"servers.flight: {error.filename}: {error.strerror}") from error
    options = FlightOptions(
        host=host,
        port=port,
        trust=wanted.auth == "trust",
        tls_certificate=certificate,
        tls_key=key,
        calls_max=config.limits.client_connections,
    )
    return FlightServer(databases, options, tally)


def measure_ports(
    metrics: Metrics, tally: Tally, pgwire: PgwireServer, flight: FlightServer | None
) -> None:
    """Have the metrics tell of clients, of what went to the source, and of limits."""
    metrics.clients.labels("pgwire").set_function(lambda: pgwire.clients)
    if flight is not None:
        metrics.clients.labels("flight").set_function(lambda: flight.calls)
    limits: list[type[HtapkitError]] = [LimitReached, QueryCancelled, MomentGone]
    for limit in (*limits, *LimitReached.__subclasses__()):
        metrics.errors.labels(limit.__name__)  # is there from the beginning, for alarms
    relayed = metrics.statements.labels(Route.SOURCE.value)
    metrics.before_text.append(lambda: relayed.inc(tally.take()))


def reached(listen: str) -> str:
    """`host:port` by which a program here reaches who listens there, perhaps on all addresses."""
    host, _, port = listen.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - a comparison
    return f"{here}:{port}"


def address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port`; the configuration has checked the form."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
