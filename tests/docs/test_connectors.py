"""docs/connectors.md: its example is a connector, installed as a stranger's would be."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import psycopg

from htapkit.testing.stack import Stack

PAGE = Path(__file__).parents[2] / "docs" / "connectors.md"
_OPTIONS = "-c htapkit.freshness=strong -c htapkit.wait_timeout=60s"


def _install(folder: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (entry,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    name, value = re.findall(r'^(\w+) = "(.*)"$', entry, re.MULTILINE)[0]
    (folder / "htapkit_lines.py").write_text(code, encoding="utf-8")
    about = folder / "htapkit_lines-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: htapkit-lines\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[htapkit.sources]\n{name} = {value}\n")


def _append(path: Path, *lines: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def _rows(stack: Stack) -> list[tuple[object, ...]]:
    with closing(
        psycopg.connect(
            host="127.0.0.1",
            port=stack.port,
            user="anybody",
            dbname="notes",
            options=_OPTIONS,
            autocommit=True,
        )
    ) as connection:
        return connection.execute("SELECT id, v FROM files.lines ORDER BY id").fetchall()


def test_the_example_is_a_connector(tmp_path: Path) -> None:
    """Copied, followed, restarted; the last line of each row counts."""
    _install(tmp_path)
    notes = tmp_path / "notes.jsonl"
    _append(notes, {"id": 1, "v": "a"}, {"id": -2, "v": "b"}, {"id": 3, "v": "c"})
    sources = {"notes": {"connector": "lines", "path": str(notes)}}
    with Stack(tmp_path / "stack", sources, environment={"PYTHONPATH": str(tmp_path)}) as stack:
        stack.wait_ready()
        assert _rows(stack) == [(-2, "b"), (1, "a"), (3, "c")]
        _append(notes, {"id": 1, "v": None}, {"id": 3, "gone": True}, {"id": 4, "v": "d"})
        assert _rows(stack) == [(-2, "b"), (1, None), (4, "d")]
        stack.kill()
        _append(notes, {"id": 3, "v": "e"}, {"id": -2, "gone": True})
        stack.start()
        assert _rows(stack) == [(1, None), (3, "e"), (4, "d")]
