"""The HTTP API is what its OpenAPI document says: every route, request and answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.routing import Route

import htapkit.client
from htapkit.cli import cli
from htapkit.client import Client, ServerRefused
from htapkit.serve.http import HttpServer
from htapkit.serve.openapi import document as made
from htapkit.serve.operations import OPERATIONS
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, mirrored
from tests.integration.test_import import written

pytestmark = pytest.mark.integration

TOKEN = "a-token"
ORDERS = "shop.public.orders"


@pytest.fixture(scope="module")
def shop(pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """A server that wants a token."""
    folder = tmp_path_factory.mktemp("api")
    configuration = {
        "servers": {"http": {"listen": "127.0.0.1:0", "token": TOKEN}},
        "exports": {"folder": "out"},
        "tables": {ORDERS: {"hot": "10 days", "retention": "20 days"}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration, start=False) as one,
    ):
        one.run(
            "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz NOT NULL)",
            "INSERT INTO orders SELECT g, now() - g * interval '1 day' "
            "FROM generate_series(1, 30) g",
        )
        one.stack.start()
        with client_of(one) as client:
            wait_until(client.ready, 60, one.stack.log_end)
        yield one


def client_of(shop: Mirrored) -> Client:
    """With the token."""
    return Client(f"http://127.0.0.1:{shop.stack.http_port}", TOKEN)


class Checked:
    """Holds what a client sends and gets against the document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.seen: set[tuple[str, str]] = set()

    def operation(self, method: str, path: str) -> tuple[str, Mapping[str, Any]]:
        """The path's template, and what is said of it."""
        for template, methods in self._document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return template, methods[method.lower()]
        raise AssertionError(f"{method} {path} is not in the document")

    def answered(self, answer: httpx.Response) -> None:
        """A hook of httpx."""
        answer.read()
        request = answer.request
        template, said = self.operation(request.method, request.url.path)
        if request.content:
            self._check(said["requestBody"], json.loads(request.content))
        self._check(said["responses"][str(answer.status_code)], answer.json())
        if answer.is_success:
            self.seen.add((request.method, template))

    def _check(self, part: Mapping[str, Any], value: object) -> None:
        schema = part["content"]["application/json"]["schema"]
        whole = {**schema, "components": self._document["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)


def document(shop: Mirrored) -> Mapping[str, Any]:
    """As anybody with the token gets it."""
    address = f"http://127.0.0.1:{shop.stack.http_port}/api/v1/openapi.json"
    assert httpx.get(address).status_code == 401
    answer = httpx.get(address, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    found: Mapping[str, Any] = answer.json()
    return found


def test_routes_and_document_are_the_same() -> None:
    """Neither has what the other has not."""
    server = HttpServer(None, "127.0.0.1", 0, None)  # type: ignore[arg-type]
    routes = {r.path for r in server._application().routes if isinstance(r, Route)}
    assert routes == set(made()["paths"])
    names = [said["operationId"] for path in made()["paths"].values() for said in path.values()]
    assert len(names) == len(set(names)) >= len(OPERATIONS) + 4
    for schema in made()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_call_matches_the_document(shop: Mirrored, tmp_path: Path) -> None:
    """All that the client can ask, held against the document both ways."""
    checked = Checked(document(shop))
    with client_of(shop) as client:
        client._http.event_hooks = {"response": [checked.answered]}
        assert client.status()["sources"][0]["name"] == "shop"
        for job in (
            client.tier([ORDERS], "5 days"),
            client.compact([ORDERS]),
            client.expire(),
            client.retain(),
            client.erase(ORDERS, "id = -1"),
            client.export("a/orders.csv", table=ORDERS, format="csv"),
            client.backfill(ORDERS, begin="2026-01-01"),
            client.backup(str(tmp_path / "backup")),
        ):
            client.wait(job["id"], timeout_seconds=JOB_SECONDS)
        assert len(client.jobs()) >= 7
        client.verify([ORDERS])
        assert client.reload() == {"tables": [], "restart_for": []}
        client.table_action("pause", ORDERS)
        client.table_action("resume", ORDERS)
        client.table_action("resync", ORDERS)
        written(shop.stack)
        client.drop_import(client.import_table("web.visits")["table"])
        with pytest.raises(ServerRefused, match="is not mirrored"):
            client.table_action("pause", "shop.public.nowhere")
        with pytest.raises(ServerRefused, match="no job 'nothing'"):
            client.job("nothing")
        with pytest.raises(ServerRefused, match="older_than"):
            client.tier([ORDERS], "soon")
        with pytest.raises(ServerRefused, match="no time lies in it"):
            client.backfill(ORDERS, begin="2026-02-01", end="2026-01-01")
        client.detach("shop")
    there = {(each.method, each.path) for each in OPERATIONS}
    assert checked.seen == there


def test_a_request_that_is_not_described_is_refused(shop: Mirrored) -> None:
    """With what is wrong in it; nothing is queued."""
    with client_of(shop) as client:
        for path, body, why in (
            ("tier", b'{"table": ["a.b.c"]}', "table: Extra inputs are not permitted"),
            ("tier", b'{"tables": "a.b.c"}', "tables: "),
            ("tier", b'{"older_than": "bogus"}', "bogus"),
            ("export", b'{"sql": "SELECT 1"}', "path: Field required"),
            ("export", b'{"path": "x", "sql": "SELECT 1", "format": "xlsx"}', "format: "),
            ("compact", b'{"engine": "flint"}', "engine 'flint' is not installed"),
            ("expire", b'{"engine": "flint"}', "engine 'flint' is not installed"),
            ("verify", b"{", "the body: Invalid JSON"),
            ("verify", b"[" + b"1," * 2**20 + b"1]", "more than 1048576 bytes"),
        ):
            answer = client._http.post(f"/api/v1/{path}", content=body)
            assert (answer.status_code, answer.json()["sqlstate"]) == (400, "22023"), path
            assert why in answer.json()["error"]


def test_commands_use_what_is_described() -> None:
    """Each path that the client names is in the document, and each command that acts uses it."""
    text = Path(htapkit.client.__file__).read_text()
    named = {re.sub(r"\{\w+\}", "{}", path) for path in re.findall(r'"(/api/v1/[^"]*)"', text)}
    described = {re.sub(r"\{\w+\}", "{}", each.path) for each in OPERATIONS}
    actions = {f"/api/v1/tables/{{}}/{verb}" for verb in ("pause", "resume", "resync")}
    assert named - {"/api/v1/tables/{}/{}"} == described - actions
    offline = {"init", "check", "serve", "sql", "explain", "restore"}  # no server, or its SQL port
    assert set(cli.commands) - offline == {each.name for each in OPERATIONS} - {
        "job",
        "jobs",
        "drop import",
    }
