"""TPC-H data.

Made by the dbgen inside the duckdb 1.1.3 wheel, which lives in an environment of its own.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")
_SQL = Path(__file__).parents[2] / "sql" / "bench" / "tpch"
_SCRIPT = """
import duckdb, sys
folder, scale = sys.argv[1], float(sys.argv[2])
db = duckdb.connect()
db.execute(f"CALL dbgen(sf={scale})")
for table in sys.argv[3:]:
    db.execute(f"COPY {table} TO '{folder}/{table}.csv' (HEADER false)")
"""


def make(scale: float, cache: Path = Path(".cache")) -> Path:
    """The folder of CSV files at this scale; made once, by one process at a time."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "tpch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make(scale, cache)


def _make(scale: float, cache: Path) -> Path:
    folder = cache / f"tpch-{scale:g}"
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    environment = cache / "duckdb-1.1.3"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "duckdb==1.1.3"], check=True)
    subprocess.run([str(python), "-c", _SCRIPT, str(folder), str(scale), *TABLES], check=True)
    (folder / "done").touch()
    return folder


def queries() -> dict[str, str]:
    """The 22 texts by name."""
    return {path.stem: path.read_text().strip() for path in sorted(_SQL.glob("q*.sql"))}


def schema() -> str:
    """The tables, PostgreSQL's DDL."""
    return (_SQL / "schema.sql").read_text()


def indexes() -> str:
    """What a PostgreSQL needs to answer in minutes."""
    return (_SQL / "indexes.sql").read_text()
