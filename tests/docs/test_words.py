"""What may not be in any file: vague names, private paths, addresses of package registries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "misc", "data"}
FOLDERS = ("htapkit", "connectors", "sql", "tests", "docs", "dags", ".ci", "changelog.d")
SUFFIXES = {".py", ".sql", ".md", ".toml", ".txt", ".yml", ".yaml", ".slt", ""}
# Built from parts, so that this file does not find itself.
PRIVATE_PATH = re.compile(r"(^|[^\w.])/(?:work|root|farm)/[\w.]", re.MULTILINE)
REGISTRY = re.compile(r"https?://[\w.-]*(?:pypi|pythonhosted|artifactory|nexus|devpi)[\w.-]*")

FILES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
] + [
    path  # but for the `.git` of a second worktree
    for path in sorted(ROOT.iterdir())
    if path.is_file() and path.suffix in SUFFIXES and path.name != ".git"
]


def test_no_vague_module_names() -> None:
    """A module is named for what it holds."""
    vague = [p for p in FILES if p.suffix == ".py" and p.stem in VAGUE]
    assert not vague


def test_no_private_paths_or_registries() -> None:
    """What is true on one machine only, or names a package index, may not be committed."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0].strip()}"
        for path in FILES
        for pattern in (PRIVATE_PATH, REGISTRY)
        for match in pattern.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


def test_constraints_are_exact_and_without_addresses() -> None:
    """One exact version for each, and nothing about where it comes from."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; .+)?", line)]
    assert lines
    assert not wrong


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "changelog.d").iterdir()) if p.name != "README.md"],
    ids=lambda p: p.name,
)
def test_changelog_fragments(path: Path) -> None:
    """Named so that a release can fold them in, and one sentence each."""
    assert re.fullmatch(r"[a-z][a-z0-9-]*\.(added|changed|fixed|removed)\.md", path.name)
    assert len(path.read_text(encoding="utf-8").strip().splitlines()) == 1
