"""The Flight SQL port: the same answers as on the PostgreSQL port, as streams of Arrow batches.

Promises: a statement's columns have the Arrow types of their PostgreSQL types, wherever it is
answered; a local answer is exact and as fresh as was asked; all else runs at the source under the
client's own role. Each statement is one of its own: there is no session and no transaction, and
what a session would hold (`htapkit.freshness`, the database) comes as headers with each call.

It never parses SQL (the planner does), never logs a secret, and holds nothing without a limit:
calls, logins, tickets and prepared statements have one, and time limits, too.
"""

from __future__ import annotations

from htapkit.serve.flight.asking import Asked, Asker
from htapkit.serve.flight.server import FlightOptions, FlightServer

__all__ = ["Asked", "Asker", "FlightOptions", "FlightServer"]
