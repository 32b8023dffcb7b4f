"""Running planned statements on the hot store."""

from __future__ import annotations

from htapkit.query.run import run

__all__ = ["run"]
