"""What the client waits for."""

from __future__ import annotations

import httpx
import pytest

from htapkit.client import Client


def test_detaching_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line does it by itself where no server answers; it must not do so beside one."""
    waits: list[object] = []

    def request(*_: object, timeout: float | None, **__: object) -> httpx.Response:
        waits.append(timeout)
        return httpx.Response(200, json={"done": "detach"})

    with Client("http://127.0.0.1:9") as client:
        monkeypatch.setattr(client._http, "request", request)
        assert client.detach("events") == {"done": "detach"}
    assert waits == [None]
