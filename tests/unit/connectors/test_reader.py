"""A second reader of a database: what it gives up, and when."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from htapkit.errors import SourceRefused
from htapkit.spi import SourceOptions
from htapkit_postgres import PostgresSource, slot
from htapkit_postgres import source as source_module

OPTIONS = SourceOptions("shop", {"dsn": "postgresql://app@h/shop"}, 10, 1, 1, 1, 1, None)


def test_it_is_given_up_where_another_server_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the refusal tells people to do must be possible while htapkit runs."""
    server = slot.Server("7", "shop", standby=False, end=1, timeline=0)
    dropped: list[Any] = []
    monkeypatch.setattr(source_module, "connect", lambda _: nullcontext())
    monkeypatch.setattr(slot, "read_server", lambda _: server)
    monkeypatch.setattr(slot, "drop_slot", lambda _, settings: dropped.append(settings.slot))
    reader = PostgresSource(OPTIONS).reader("events")
    known = reader.identity()
    monkeypatch.setattr(slot, "read_server", lambda _: replace(server, system="8"))
    with pytest.raises(SourceRefused, match="htapkit detach shop"):
        reader.identity(known)
    reader.detach()
    assert dropped == ["htapkit_shop_events"], "and no publication"
