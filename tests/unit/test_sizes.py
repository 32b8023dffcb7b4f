"""Small things: a module of at most 400 lines, a function of 60; each module says why it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FOLDERS = ("htapkit", "connectors", "tests", "dags")

# What is longer on purpose, with the reason.
EXCEPTIONS: dict[str, str] = {}

MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_is_small_and_says_why(path: Path) -> None:
    """Size of the module and of each function, and the opening docstring."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    long = [
        f"{_name(path)}:{node.lineno} {node.name}: {lines} lines"
        for node in _functions(tree)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
        and f"{_name(path)}::{node.name}" not in EXCEPTIONS
    ]
    assert not long, "split these functions"
    lines = text.count("\n")
    assert lines <= MODULE_LINES_MAX or _name(path) in EXCEPTIONS, (
        f"{lines} lines: split the module"
    )
    assert not text.strip() or ast.get_docstring(tree), "open with a docstring: why does it exist?"


def test_exceptions_are_still_needed() -> None:
    """An exception for what is gone would hide what comes next."""
    gone = [name for name in EXCEPTIONS if not (ROOT / name.partition("::")[0]).exists()]
    assert not gone
