"""What commands of other packages are given: the configuration, and the running server's rows."""

from __future__ import annotations

from pathlib import Path

from htapkit.commands import Rows
from htapkit.config import load_config
from htapkit.errors import ConfigError
from htapkit.spi import SourceOptions


class Around:
    """The Surroundings of a command line."""

    def source_options(self, config_path: Path, name: str, connector: str) -> SourceOptions:
        """See Surroundings."""
        config = load_config(config_path)
        of_it = [each for each, one in config.sources.items() if one.connector == connector]
        if name not in of_it:
            raise ConfigError(
                f"no source '{name}' of connector {connector}; there are: "
                f"{', '.join(of_it) or 'none'}"
            )
        return config.source_options(name)

    def rows(self, config_path: Path, sql: str, source: str, user: str) -> Rows:
        """See Surroundings."""
        from htapkit.cli.flight_rows import rows_of  # noqa: PLC0415 - the others start faster

        return rows_of(load_config(config_path), sql, source, user)
