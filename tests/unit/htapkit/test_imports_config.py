"""Who may read imported tables: closed by default, a table's own entry before `*`."""

from __future__ import annotations

import pytest

from htapkit.config import ImportsConfig
from htapkit.model import LAKE, TableId


@pytest.mark.parametrize(
    ("readers", "allowed"),
    [
        ({}, set()),
        ({"*": ("ann",)}, {"ann"}),
        ({"*": ("ann",), "web.visits": ("bob",)}, {"bob"}),
        ({"*": ("*",), "web.visits": ()}, set()),
        ({"web.visits": ("*",)}, {"ann", "bob"}),
        ({"web.other": ("ann",)}, set()),
    ],
)
def test_readers(readers: dict[str, tuple[str, ...]], allowed: set[str]) -> None:
    """Only who is named."""
    config = ImportsConfig(readers=readers)
    table = TableId(LAKE, "web", "visits")
    assert {role for role in ("ann", "bob") if config.may_read(role, table)} == allowed
