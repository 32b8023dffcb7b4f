"""The compiled reader and the picture of its classes, with a real Java."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from htapkit_cassandra.jars import JAVA_FOLDER, classpath, missing
from htapkit_cassandra.lines import FORMAT
from htapkit_cassandra.programs import command

pytestmark = pytest.mark.cassandra


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_reader_starts_from_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java refuses to start with one that does not fit; what it says is not in the output."""
    jars, options = classpath(), [f"@{JAVA_FOLDER / 'jvm.options'}", "-Xshare:on"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    log, schema = tmp_path / "log", tmp_path / "schema.json"
    log.mkdir()
    schema.write_text(json.dumps({"ignored": [], "statements": []}))
    run = command("CommitLogTail.java", jars, "256MB", tmp_path, options)
    assert run[-1] == "CommitLogTail"
    with subprocess.Popen(
        [*run, str(log), str(schema), "--once"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        lines = [json.loads(line) for line in reader.stdout]
        assert reader.wait() == 0
    assert lines == [{"kind": "ready", "format": FORMAT, "tables": []}]
    assert any(option.startswith("-XX:SharedArchiveFile=") for option in run)
