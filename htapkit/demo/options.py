"""What the command line asks of the demo."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for."""

    seconds: float | None
    rows_scale: float
    rate: int
    both: bool = False
