"""What the configuration refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.config import load_config
from htapkit.errors import ConfigError

_FILE = "sources: {{shop: {{connector: postgres}}}}\nexports: {{folder: '{folder}'}}\n"


def _folder(tmp_path: Path, folder: str) -> str:
    path = tmp_path / "htapkit.yaml"
    path.write_text(_FILE.format(folder=folder))
    exports = load_config(path).exports
    assert exports is not None
    return exports.folder


@pytest.mark.parametrize("folder", ["ftp://there/x", "s3://", "s3:///x", "https://bucket/x"])
def test_where_exports_cannot_go(tmp_path: Path, folder: str) -> None:
    """Every command says so, `check` as well as `serve`."""
    with pytest.raises(ConfigError, match=r"exports\.folder: expected a folder, or s3://bucket"):
        _folder(tmp_path, folder)


def test_where_exports_go(tmp_path: Path) -> None:
    """A folder beside the file, or a bucket."""
    assert _folder(tmp_path, "out") == str(tmp_path / "out")
    assert _folder(tmp_path, "s3://reports/daily") == "s3://reports/daily"
