"""Our errors as Flight's: the gRPC status that fits the SQLSTATE, which stands in the message, too.

A client gets the message, with the SQLSTATE at its end, and `{"sqlstate": "42P01"}` as the error's
extra information. (That travels as gRPC's status details, which some libraries read as a message
of Protocol Buffers: an opening brace begins a group there that never ends, so that it is none.)
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import pyarrow as pa
from pyarrow import flight

from htapkit.errors import HtapkitError, ScanTooLarge, SourceRefused
from htapkit.serve.flight.commands import NotOffered
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.tally import Tally

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="Counting")
_log = logging.getLogger(__name__)

_STATUSES = (
    (("28",), flight.FlightUnauthenticatedError),
    (("42501",), flight.FlightUnauthorizedError),
    (("57014",), flight.FlightCancelledError),
    (("08", "53", "57P", "58"), flight.FlightUnavailableError),
    (("XX",), flight.FlightInternalError),
)


class Counting(Protocol):
    """What has calls that may fail."""

    tally: Tally


def diagnosis(problem: HtapkitError) -> tuple[str, str]:
    """(SQLSTATE, message): the source's own words where it had some."""
    if isinstance(problem, SourceRefused) and problem.diagnostic:
        fields = messages.error_fields(problem.diagnostic)
        told = [fields.get("M", str(problem))]
        told += [f"{name}: {fields[key]}" for key, name in (("D", "DETAIL"), ("H", "HINT"))
                 if key in fields]  # fmt: skip
        return fields.get("C", problem.sqlstate), "; ".join(told)
    return problem.sqlstate, str(problem)


def _extra(sqlstate: str) -> bytes:
    return json.dumps({"sqlstate": sqlstate}).encode()


def as_flight(problem: HtapkitError) -> Exception:
    """The exception that pyarrow turns into the right status."""
    sqlstate, message = diagnosis(problem)
    told, extra = f"{message} [SQLSTATE {sqlstate}]", _extra(sqlstate)
    if isinstance(problem, NotOffered):
        # What drivers look for when they try what a server can do.
        return pa.ArrowNotImplementedError(told)
    for prefixes, kind in _STATUSES:
        # What is unavailable is tried again; a statement that is too large stays so.
        if sqlstate.startswith(prefixes) and not isinstance(problem, ScanTooLarge):
            return kind(told, extra)
    # INVALID_ARGUMENT would fit many, but in it pyarrow sends the server's stack instead of extra.
    return flight.FlightServerError(told, extra)


@contextlib.contextmanager
def translated(tally: Tally) -> Iterator[None]:
    """Errors leave the block as Flight's; ours are counted."""
    try:
        yield
    except HtapkitError as problem:
        tally.failed(problem)
        raise as_flight(problem) from None
    except flight.FlightError:
        raise
    except Exception:  # noqa: BLE001 - the task's top
        _log.exception("a Flight call failed")
        raise flight.FlightInternalError(
            "internal error [SQLSTATE XX000]", _extra("XX000")
        ) from None


def told(call: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """A method whose errors reach the client as Flight's."""

    @functools.wraps(call)
    def guarded(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with translated(self.tally):
            return call(self, *args, **kwargs)

    return guarded
