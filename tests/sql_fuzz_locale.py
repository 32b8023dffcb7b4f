"""A locale whose order is not that of bytes, compiled for a test where the machine has none.

`localedef` and the locale's source come with Debian's `locales`. A server finds the result by the
environment variable LOCPATH, which is read when it starts.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "en_US.utf8"
"""It sorts 'a' before 'B', and looks at punctuation last."""
_SOURCE = Path("/usr/share/i18n/locales/en_US")


@contextmanager
def compiled() -> Iterator[Path | None]:
    """A folder for LOCPATH with the locale in it, that every user can read; None without tools."""
    program = shutil.which("localedef")
    if program is None or not _SOURCE.exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="htapkit-locale-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        command = [program, "-i", str(_SOURCE), "-f", "UTF-8", "--no-archive", str(folder / NAME)]
        subprocess.run(command, check=True, capture_output=True)
        yield folder
