"""Who may read what has no users of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.cli.endpoint import trusted
from htapkit.config import load_config

_FILE = "sources: {shop: {connector: postgres, dsn: 'host=h', tables: ['a.b']}}\nservers: "


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ("{pgwire: {auth: trust}}", True),
        ("{pgwire: {auth: trust}, flight: {auth: trust}}", True),
        ("{pgwire: {auth: trust}, flight: {auth: source}}", False),
        ("{pgwire: {auth: source}, flight: {auth: trust}}", False),
        ("{pgwire: {auth: source}}", False),
    ],
)
def test_one_port_that_asks_is_enough_to_be_closed(
    servers: str, expected: bool, tmp_path: Path
) -> None:
    """A port that trusts must not open a source to those who log in at another."""
    path = tmp_path / "htapkit.yaml"
    path.write_text(_FILE + servers)
    assert trusted(load_config(path)) is expected
