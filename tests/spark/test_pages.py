"""docs/spark.md says what is true: the settings of the tests, every option, statements that run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from htapkit_spark.options import ALLOWED
from tests.fix_mirror import Mirrored
from tests.spark.conftest import Spark, settings
from tests.spark.jars import JARS
from tests.spark.test_upkeep import make, same

PAGE = Path(__file__).parents[2] / "docs" / "spark.md"


def _blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    # All of them, so that the end of one is not taken for the beginning of another.
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for its, block in blocks if its == language]


def test_the_settings_are_those_of_the_tests() -> None:
    (block,) = [block for block in _blocks("") if "spark.sql.catalog.htapkit" in block]
    told = dict(line.split(maxsplit=1) for line in block.splitlines())
    packages = told.pop("spark.jars.packages").split(",")
    assert packages == [jar.coordinates for jar in JARS]
    ours = settings(Path("/srv/htapkit-data"), Path("/tmp"))  # noqa: S108 - only a name
    assert told == {key: ours[key] for key in told}
    assert {key for key in ours if key.startswith("spark.sql.catalog.")} <= set(told)


def test_every_option_has_a_row() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("| option |") : text.index("**One moment.**")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(
        ALLOWED
    )


@pytest.mark.spark
@pytest.mark.integration
@pytest.mark.long
def test_the_statements_run(history: Mirrored, spark: Spark) -> None:
    table = make(history, "told")
    tag = spark.value("select name from htapkit.shop.public.told.refs where type = 'TAG' limit 1")
    statements = [
        statement
        for block in _blocks("sql")
        for statement in re.sub(r"--.*", "", block).split(";")
        if statement.strip()
    ]
    assert len(statements) == 9
    for statement in statements:
        sql = statement.replace("public.orders", f"public.{table}").replace("created_at", "at")
        sql = sql.replace("total)", "amount)").replace("htapkit-5716…", tag)
        spark.rows(sql.replace("reports", "told_reports"))
    same(history, table)
