"""What several commands share: their options, and the way to the running server."""

from __future__ import annotations

from pathlib import Path

import click

from htapkit.cli.ports import reached
from htapkit.client import Client
from htapkit.config import Config

CONFIG = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("htapkit.yaml"),
    show_default=True,
    help="The configuration file.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def client_of(config: Config) -> Client:
    """The API of the server that this configuration describes."""
    return Client(f"http://{reached(config.servers.http.listen)}", config.servers.http.token)


def full_name(config: Config, table: str) -> str:
    """`orders`, `public.orders` or `shop.public.orders` as the last."""
    parts = table.split(".")
    first = next(iter(config.sources))
    given = {1: [first, "public", *parts], 2: [first, *parts]}.get(len(parts), parts)
    return ".".join(given)
