"""What people see of a verification: each table, and what was not compared, with the reason."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from htapkit.cli.output import print_verification


@pytest.mark.parametrize(
    ("sound", "shown"),
    [
        (True, "sound, not compared: nobody [b] has [/it]"),
        (False, "damaged: nobody [b] has [/it]"),
        (None, "not compared: nobody [b] has [/it]"),
    ],
)
def test_what_was_not_compared_is_shown(sound: bool | None, shown: str) -> None:
    """Also where nothing else was."""
    beside = {"table": "history.a.b.c", "rows": 1234, "sound": sound, "why": "nobody [b] has [/it]"}
    result = {"tables": [], "not_compared": [beside], "position": "", "seconds": 1.0}
    written = StringIO()
    print_verification(Console(file=written, width=200), result)
    text = written.getvalue()
    assert "nothing was compared" in text
    (line,) = [line for line in text.splitlines() if "history.a.b.c" in line]
    assert f" {shown} " in line
    assert line.split()[-1] == "1,234"
