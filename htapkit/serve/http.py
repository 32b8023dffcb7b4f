"""The HTTP port: health, metrics, and the API that the command line and the schedulers use.

It never touches the store or a source itself: everything goes through the injected `Control`.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from htapkit.errors import ConfigError, HtapkitError, LimitReached

_log = structlog.get_logger("htapkit.serve")
_START_SECONDS = 15.0
TABLE_VERBS = ("pause", "resume", "resync")
UPKEEP_VERBS = ("compact", "expire", "retain")


class Control(Protocol):
    """What the API may ask of the server. Called from worker threads."""

    def status(self) -> Mapping[str, Any]:
        """Sources and tables, as JSON."""
        ...

    def ready(self) -> bool:
        """Every table is copied and followed."""
        ...

    def metrics(self) -> bytes:
        """Prometheus' text."""
        ...

    def table_action(self, verb: str, table: str) -> Mapping[str, Any]:
        """pause, resume or resync `source.schema.table`. ConfigError for an unknown one."""
        ...

    def detach(self, source: str) -> Mapping[str, Any]:
        """Remove slot and publication, forget the copy."""
        ...

    def verify(self, tables: list[str]) -> Mapping[str, Any]:
        """Compare source and copy at one position."""
        ...

    def tier(self, tables: list[str], older_than: str | None) -> Mapping[str, Any]:
        """Queue a job that moves closed ranges to the lake; the job."""
        ...

    def upkeep(self, verb: str, tables: list[str]) -> Mapping[str, Any]:
        """Queue a job that compacts or expires tables, or drops what is too old; the job."""
        ...

    def export(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Queue a job that writes a statement's or a table's rows to a file; the job."""
        ...

    def backup(self, folder: str) -> Mapping[str, Any]:
        """Queue a job that writes a backup to a new folder of the server's machine; the job."""
        ...

    def backfill(self, table: str, begin: str | None, end: str | None) -> Mapping[str, Any]:
        """Queue a job that reads a range of a table again from the source; the job."""
        ...

    def job(self, job_id: str) -> Mapping[str, Any]:
        """A job as it is now."""
        ...

    def jobs(self) -> Mapping[str, Any]:
        """All jobs that are still known."""
        ...


class HttpServer:
    """Runs the API in a thread of its own."""

    def __init__(self, control: Control, host: str, port: int, token: str | None) -> None:
        """`token` None: no authentication (the configuration allows that on loopback only)."""
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
        self._thread.join(5)

    def _application(self) -> Starlette:
        table_routes = [
            Route(f"/api/v1/tables/{{table}}/{verb}", self._table_action(verb), methods=["POST"])
            for verb in TABLE_VERBS
        ]
        upkeep_routes = [
            Route(f"/api/v1/{verb}", self._upkeep(verb), methods=["POST"]) for verb in UPKEEP_VERBS
        ]
        return Starlette(
            routes=[
                Route("/livez", lambda _: PlainTextResponse("ok\n")),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics),
                Route("/api/v1/status", self._status),
                Route("/api/v1/sources/{source}/detach", self._detach, methods=["POST"]),
                Route("/api/v1/verify", self._verify, methods=["POST"]),
                Route("/api/v1/tier", self._tier, methods=["POST"]),
                Route("/api/v1/export", self._export, methods=["POST"]),
                Route("/api/v1/backup", self._backup, methods=["POST"]),
                Route("/api/v1/backfill", self._backfill, methods=["POST"]),
                Route("/api/v1/jobs", self._jobs),
                Route("/api/v1/jobs/{job}", self._job),
                *table_routes,
                *upkeep_routes,
            ],
            exception_handlers={HtapkitError: _explain},  # type: ignore[dict-item]
        )

    def _authorise(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
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

    async def _status(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse(await run_in_threadpool(self._control.status))

    async def _detach(self, request: Request) -> Response:
        self._authorise(request)
        name = request.path_params["source"]
        return JSONResponse(await run_in_threadpool(self._control.detach, name))

    async def _verify(self, request: Request) -> Response:
        self._authorise(request)
        body = await request.body()
        tables = (await request.json()).get("tables", []) if body else []
        return JSONResponse(await run_in_threadpool(self._control.verify, list(tables)))

    async def _tier(self, request: Request) -> Response:
        self._authorise(request)
        body = await request.json() if await request.body() else {}
        tables, older_than = list(body.get("tables", [])), body.get("older_than")
        found = await run_in_threadpool(self._control.tier, tables, older_than)
        return JSONResponse(found, status_code=202)

    def _upkeep(self, verb: str) -> Callable[[Request], Awaitable[Response]]:
        async def act(request: Request) -> Response:
            self._authorise(request)
            body = await request.json() if await request.body() else {}
            tables = list(body.get("tables", []))
            found = await run_in_threadpool(self._control.upkeep, verb, tables)
            return JSONResponse(found, status_code=202)

        return act

    async def _export(self, request: Request) -> Response:
        self._authorise(request)
        found = await run_in_threadpool(self._control.export, await request.json())
        return JSONResponse(found, status_code=202)

    async def _backup(self, request: Request) -> Response:
        self._authorise(request)
        body = await request.json() if await request.body() else {}
        found = await run_in_threadpool(self._control.backup, str(body.get("folder", "")))
        return JSONResponse(found, status_code=202)

    async def _backfill(self, request: Request) -> Response:
        self._authorise(request)
        body = await request.json()
        span = str(body.get("table") or ""), body.get("from"), body.get("to")
        return JSONResponse(await run_in_threadpool(self._control.backfill, *span), status_code=202)

    async def _jobs(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse(await run_in_threadpool(self._control.jobs))

    async def _job(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse(await run_in_threadpool(self._control.job, request.path_params["job"]))

    def _table_action(self, verb: str) -> Callable[[Request], Awaitable[Response]]:
        async def act(request: Request) -> Response:
            self._authorise(request)
            table = request.path_params["table"]
            return JSONResponse(await run_in_threadpool(self._control.table_action, verb, table))

        return act


def _explain(_: Request, error: HtapkitError) -> Response:
    """An error as JSON: what, which, what to do, and the SQLSTATE."""
    status = 404 if isinstance(error, ConfigError) else 409
    status = 503 if error.retry or isinstance(error, LimitReached) else status
    _log.info("request refused", error=type(error).__name__, why=str(error))
    return JSONResponse({"error": str(error), "sqlstate": error.sqlstate}, status_code=status)
