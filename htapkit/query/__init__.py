"""Running planned statements on the hot store and the lake."""

from __future__ import annotations

from htapkit.query.run import run, run_in_parts
from htapkit.query.whole import read_whole

__all__ = ["read_whole", "run", "run_in_parts"]
