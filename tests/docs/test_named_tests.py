"""The last column of docs/postgres.md names the test of each row: that test exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "postgres.md"
NAMED_MIN = 60


def _named() -> list[tuple[str, str]]:
    """(file, test) of all rows of "What happens when", as the page writes them."""
    text = PAGE.read_text(encoding="utf-8").partition("## What happens when")[2]
    named = []
    for line in text.partition("\n## ")[0].splitlines():
        cell = line.removesuffix(" |").rpartition("|")[2] if line.startswith("| ") else ""
        for part in cell.split(";"):
            file, colon, tests = part.partition(":")
            named += [(file.strip(), test.strip()) for test in tests.split(",") if colon]
    return named


def _tests(file: str) -> list[str]:
    """The tests of every file that may be meant."""
    names = {f"test_mirror_{file}.py", f"test_{file}.py", f"{file}.py"}
    found = [path for path in (ROOT / "tests").rglob("test_*.py") if path.name in names]
    return [
        name
        for path in found
        for name in re.findall(
            r"^\s*def test_(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]


NAMED = [each for each in _named() if each[1] != "all" and each[0] != "unit"]


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_test_of_a_row_exists(file: str, test: str) -> None:
    """`…` stands for any words."""
    pattern = re.escape(test).replace("…", r"\w*")
    assert any(re.search(pattern, name) for name in _tests(file)), f"{file}: {test}"


def test_rows_were_found() -> None:
    assert len(NAMED) >= NAMED_MIN
