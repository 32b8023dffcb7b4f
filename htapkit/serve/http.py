"""The HTTP port: health, metrics, and the API that the command line and the schedulers use.

What can be asked stands in `operations`, from which routes and the OpenAPI document are made. It
never touches the store or a source itself: everything goes through the injected `Control`.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Awaitable, Callable

import structlog
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from htapkit.errors import ConfigError, HtapkitError, LimitReached
from htapkit.serve.control import Control
from htapkit.serve.openapi import DOCUMENT_PATH, document
from htapkit.serve.operations import LIVE, METRICS, OPERATIONS, READY, Body, Operation

_log = structlog.get_logger("htapkit.serve")
_START_SECONDS = 15.0
_BODY_BYTES_MAX = 2**20


class BadRequest(HtapkitError):
    """A request that does not match the API's description (/api/v1/openapi.json)."""

    sqlstate = "22023"


class HttpServer:
    """Runs the API in a thread of its own."""

    def __init__(
        self,
        control: Control,
        host: str,
        port: int,
        token: str | None,
        fail: Callable[[str], object] = str,
    ) -> None:
        """`token` None: no authentication (the configuration allows that on loopback only).

        `fail` counts a refused request by the name of its error.
        """
        self._fail = fail
        self._control = control
        self._token = token
        configuration = uvicorn.Config(
            self._application(),
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is really used."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    def start(self) -> None:
        """Listen; raises ConfigError when the address cannot be had."""
        self._thread.start()
        pause = threading.Event()
        waited = 0.0
        while not self._server.started:
            if not self._thread.is_alive() or waited > _START_SECONDS:
                where = f"{self._server.config.host}:{self._server.config.port}"
                raise ConfigError(
                    f"servers.http.listen: cannot listen on {where} (in use?); choose another port"
                )
            pause.wait(0.01)
            waited += 0.01

    def stop(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)

    def _application(self) -> Starlette:
        operations = [
            Route(each.path, self._endpoint(each), methods=[each.method]) for each in OPERATIONS
        ]
        return Starlette(
            routes=[
                Route(LIVE.path, lambda _: PlainTextResponse("ok\n")),
                Route(READY.path, self._ready),
                Route(METRICS.path, self._metrics),
                Route(DOCUMENT_PATH, self._document),
                *operations,
            ],
            exception_handlers={HtapkitError: self._refuse},  # type: ignore[dict-item]
        )

    def _refuse(self, request: Request, error: HtapkitError) -> Response:
        self._fail(type(error).__name__)
        return _explain(request, error)

    def _authorise(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            self._fail("NoToken")
            raise HTTPException(
                401, "a token is needed: Authorization: Bearer <servers.http.token>"
            )

    async def _ready(self, _: Request) -> Response:
        ready = await run_in_threadpool(self._control.ready)
        text = "ready\n" if ready else "not ready: see /api/v1/status\n"
        return PlainTextResponse(text, status_code=200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        text = await run_in_threadpool(self._control.metrics)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def _document(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse(document())

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def act(request: Request) -> Response:
            self._authorise(request)
            body = _read(operation, await _octets(request))
            path = {name: str(value) for name, value in request.path_params.items()}
            found = await run_in_threadpool(operation.call, self._control, path, body)
            return JSONResponse(found, status_code=operation.status)

        return act


async def _octets(request: Request) -> bytes:
    """The body. Raises BadRequest where it is larger than any can be."""
    octets = b""
    async for part in request.stream():
        octets += part
        if len(octets) > _BODY_BYTES_MAX:
            raise BadRequest(f"the request has more than {_BODY_BYTES_MAX} bytes")
    return octets


def _read(operation: Operation, octets: bytes) -> Body:
    """The body of a request; one that is left out is empty. Raises BadRequest."""
    try:
        return operation.body.model_validate_json(octets or b"{}")
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the body'}: {e['msg']}" for e in error.errors()
        )
        raise BadRequest(f"{operation.method} {operation.path}: {found}") from error


def _explain(request: Request, error: HtapkitError) -> Response:
    """An error as JSON: what, which, what to do, and the SQLSTATE."""
    # Its path names nothing that is there; or what is wrong is in its body.
    if isinstance(error, ConfigError) and not request.path_params:
        error = BadRequest(str(error))
    status = 404 if isinstance(error, ConfigError) else 409
    status = 400 if isinstance(error, BadRequest) else status
    status = 503 if error.retry or isinstance(error, LimitReached) else status
    _log.info("request refused", error=type(error).__name__, why=str(error))
    return JSONResponse({"error": str(error), "sqlstate": error.sqlstate}, status_code=status)
