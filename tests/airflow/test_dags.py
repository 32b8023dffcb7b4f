"""The DAGs that ship: they load, are thin, and each is documented."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAGS = sorted((ROOT / "dags").glob("*.py"))
LINES_MAX = 60
MAY_IMPORT = {"__future__", "airflow", "collections", "datetime", "htapkit_airflow"}

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("path", DAGS, ids=lambda p: p.stem)
def test_a_dag_is_thin(path: Path) -> None:
    """It says what and when; how is in the provider. It imports nothing else."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert imported <= MAY_IMPORT
    assert text.count("\n") <= LINES_MAX


def test_every_dag_has_a_heading() -> None:
    """docs/airflow.md has exactly the DAGs that there are."""
    page = (ROOT / "docs" / "airflow.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### `(\w+)`", page, flags=re.MULTILINE)
    assert sorted(headings) == [path.stem for path in DAGS]


def test_every_class_of_the_provider_is_documented() -> None:
    """docs/airflow.md names each operator, sensor, trigger and hook."""
    page = (ROOT / "docs" / "airflow.md").read_text(encoding="utf-8")
    classes = {
        node.name
        for path in (ROOT / "connectors" / "htapkit_airflow").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    assert {name for name in classes if f"`{name}`" not in page} == set()


def test_they_load() -> None:
    """Airflow imports each file without an error, and finds the DAG of its name."""
    pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")
    from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - only where it is there

    bag = DagBag(dag_folder=str(ROOT / "dags"))
    assert not bag.import_errors
    assert sorted(bag.dags) == [path.stem for path in DAGS]
    tier, verify = bag.dags["htapkit_tier"], bag.dags["htapkit_verify"]
    assert tier.get_task("tier").upstream_task_ids == {"ready"}
    assert verify.get_task("verify").is_mapped
    assert bag.dags["htapkit_export"].get_task("export").is_mapped
    assert bag.dags["htapkit_backfill"].get_task("backfill").is_mapped
    assert bag.dags["htapkit_upkeep"].get_task("expire").upstream_task_ids == {"compact"}
    for dag in bag.dags.values():
        assert not dag.catchup
        assert all(task.retries == 3 for task in dag.tasks)
