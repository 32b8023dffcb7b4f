"""The connector's part of the demo, as far as it needs no node."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from htapkit.errors import ConfigError
from htapkit_cassandra.demo import EventsDemo, joined
from htapkit_cassandra.demo_clients import event


def test_joined_counts_and_sums_by_country() -> None:
    """Who is no customer is in no country; a customer without events counts for nothing."""
    customers = [(1, "DE"), (2, "FR"), (3, "DE"), (4, "US")]
    events = [(1, 2), (3, 5), (2, 1), (1, 1), (9, 100)]
    assert sorted(joined(customers, events)) == [("DE", 3, 8), ("FR", 1, 1)]


def test_events_are_of_customers_that_exist() -> None:
    """From the first to the last; money in cents."""
    drawn, at = random.Random(3), datetime(2026, 1, 2, tzinfo=UTC)
    events = [event(drawn, 5, at) for _ in range(500)]
    assert {entity for entity, *_ in events} == {1, 2, 3, 4, 5}
    assert all(amount == round(amount, 2) > Decimal(0) for _, _, _, amount, _ in events)


def test_without_java_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything was started."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"java is not installed.*apt-get install openjdk-17.* maven"
    ):
        EventsDemo(tmp_path / "node", lambda: 1)
    assert not (tmp_path / "node").exists()
