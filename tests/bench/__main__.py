"""`python -m tests.bench [names…] [--write]`: run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path

from tests.bench.figures import Figure, show, write_markdown

NAMES = (
    "cdc",
    "snapshot",
    "freshness",
    "tpch",
    "wire",
    "source",
    "rows",
    "memory",
    "lake",
    "cycles",
    "archive",
    "files",
    "cells",
    "cells_lake",
    "vectors",
    "load",
    "cassandra",
)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md"
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    figures: list[Figure] = []
    failed = False
    for name in options.names:
        print(f"-- {name}", flush=True)
        try:
            figures += importlib.import_module(f"tests.bench.{name}").run()
        except Exception:  # noqa: BLE001 - the others are still worth their time
            traceback.print_exc()
            failed = True
    show(figures)
    if options.write:
        write_markdown(figures, Path("docs/benchmarks.md"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
