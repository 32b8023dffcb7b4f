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
    "cells",
    "vectors",
    "load",
    "cassandra",
