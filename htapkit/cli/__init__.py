"""The command line: composes the parts and prints; decides nothing itself."""

from __future__ import annotations

from htapkit.cli.commands import cli, main

__all__ = ["cli", "main"]
