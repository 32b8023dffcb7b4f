"""A stand-in for the HTTP API: what a test says it answers, and what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeApi:
    """Answers `"GET /path"` with the next of its replies; the last one stays."""

    def __init__(self) -> None:
        """Listens on a free port."""
        self._replies: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        self.asked: list[tuple[str, Any]] = []
        self.tokens: set[str | None] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> FakeApi:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Answer nobody any more. Safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def says(self, what: str, *bodies: Mapping[str, Any], status: int = 200) -> None:
        """From now on `what`, such as `GET /api/v1/status`, is answered so, one after another."""
        self._replies[what] = [(status, body) for body in bodies]

    def job(self, job_id: str, *states: str, why: str = "", result: Any = None) -> None:
        """A job that is in one state after the other, each time that it is asked for."""
        bodies = [
            {
                "id": job_id,
                "state": state,
                "step": "writing" if state == "running" else "",
                "done": 0,
                "total": 0,
                "why": why if state == "failed" else "",
                "result": (result or {}) if state == "done" else {},
            }
            for state in states
        ]
        self.says(f"GET /api/v1/jobs/{job_id}", *bodies)

    def count(self, what: str) -> int:
        """How often it was asked."""
        return [name for name, _ in self.asked].count(what)

    def _reply(self, what: str, body: bytes, token: str | None) -> tuple[int, Mapping[str, Any]]:
        self.asked.append((what, json.loads(body) if body else None))
        self.tokens.add(token)
        replies = self._replies.get(what)
        if replies is None:
            return 404, {"error": f"nothing is known of {what}"}
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                what = f"{self.command} {self.path}"
                status, reply = fake._reply(what, body, self.headers.get("authorization"))
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815 - the names that the library calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        return Handler
