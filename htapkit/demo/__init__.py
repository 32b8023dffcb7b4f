"""`htapkit demo`: a private PostgreSQL with a live shop, mirrored and queried before your eyes.

Everything it starts is its own, lies in temporary directories, and is gone when it ends.
"""

from __future__ import annotations

from htapkit.demo.command import demo

__all__ = ["demo"]
