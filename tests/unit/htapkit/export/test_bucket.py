"""What an export to an object store leaves on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.errors import ConfigError
from htapkit.export import Bucket

_STORAGE = {
    "s3.endpoint": "http://127.0.0.1:9",
    "s3.access-key-id": "a",
    "s3.secret-access-key": "b",
    "s3.region": "here",
}


def test_nothing_is_left_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder either, of each day one; an object may be called as others' prefix."""
    sent: dict[str, bytes] = {}
    place = Bucket("s3://reports/daily", _STORAGE, tmp_path)
    monkeypatch.setattr(place, "_upload", lambda path, name: sent.update({name: path.read_bytes()}))
    for name in ("a/2026-01-01/rows.csv", "a/2026-01-02/rows.csv", "a"):
        assert not place.clear(name)
        with place.new_file(name) as file:
            file.write(name.encode())
    assert sent == {name: name.encode() for name in sent}
    assert len(sent) == 3
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="name of a file"):
        place.clear("../b")
