"""The sqllogictest runner: it must see a wrong answer, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from htapkit.testing.slt import (
    Refused,
    Row,
    SltMalformed,
    SltMismatch,
    check,
    check_all,
    parse,
    render,
    with_answers,
)

FILE = """# a comment
statement ok
create table t (a int)

# route: hot
query TR rowsort the_pairs
select b, sum(c)
from t
----
a\t1
b\tNULL

# route: any
query T
select 1 as "a -- b"
----

onlyif other
query T
select nothing
----

statement error 22012|zero
select 1/0

halt

query T
never
----
"""


class Told:
    """An engine that gives the answers it was told."""

    name = "told"

    def __init__(self, answers: Mapping[str, Sequence[Row] | str], route: str = "hot") -> None:
        """A string is an error's message."""
        self.answers = answers
        self.route = route

    def run(self, sql: str) -> Sequence[Row]:
        """The answer told."""
        answer = self.answers[sql]
        if isinstance(answer, str):
            raise Refused(answer)
        return answer

    def last_route(self) -> str:
        """The route told."""
        return self.route


RIGHT: dict[str, Sequence[Row] | str] = {
    "create table t (a int)": (),
    "select b, sum(c)\nfrom t": [("b", None), ("a", "1.0000000000000002")],
    'select 1 as "a -- b"': [],
    "select 1/0": "22012: division by zero",
}


def test_parse_keeps_setup_routes_and_lines() -> None:
    """What stands where."""
    script = parse(FILE, "told")
    assert [r.sql for r in script.setup] == ["create table t (a int)"]
    assert [(r.line, r.route, r.argument) for r in script.records] == [
        (6, "hot", "the_pairs"),
        (14, "", ""),
        (23, "", "22012|zero"),
    ]
    assert script.records[0].rows == ("a\t1", "b\tNULL")
    assert len(parse(FILE, "other").records) == 4


def test_right_answers_pass() -> None:
    """Rows in any order where sorted, floats to 1e-12."""
    script = parse(FILE, "told")
    assert check_all((*script.setup, *script.records), Told(RIGHT)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        [("b", None), ("a", "1.00000000001")],
        [("b", ""), ("a", "1")],
        [("b", None)],
        [("b", None), ("a", "1"), ("a", "1")],
        [("b", None, None), ("a", "1", None)],
        "42P01: no such table",
    ],
)
def test_wrong_answers_are_seen(wrong: Sequence[Row] | str) -> None:
    """A value, a row or a column too many or too few, an error."""
    record = parse(FILE, "told").records[0]
    with pytest.raises(SltMismatch, match="the_pairs"):
        check(record, Told({**RIGHT, record.sql: wrong}))


def test_wrong_route_and_missing_error_are_seen() -> None:
    """The right rows from the wrong place; an error that did not come, or another one."""
    query, _, error = parse(FILE, "told").records
    with pytest.raises(SltMismatch, match="answered by source, not hot"):
        check(query, Told(RIGHT, route="source"))
    with pytest.raises(SltMismatch, match="should have failed"):
        check(error, Told({**RIGHT, "select 1/0": [("1",)]}))
    with pytest.raises(SltMismatch, match="deadlock"):
        check(error, Told({**RIGHT, "select 1/0": "40P01: deadlock"}))


@pytest.mark.parametrize(
    "bad", ["query X\nselect 1\n----\n", "query T\nselect 1\n", "question\nselect 1", "query T"]
)
def test_malformed_files_are_refused(bad: str) -> None:
    """A typing error must not skip a record."""
    with pytest.raises(SltMalformed, match="line 1"):
        parse(bad, "told")


def test_answers_are_written_in_place() -> None:
    """Answers go in, everything else stays; what was written then passes."""
    told = Told({**RIGHT, 'select 1 as "a -- b"': [("x\ty",), ("",)]})
    written = with_answers(FILE, told)
    assert "----\na\t1.0000000000000002\nb\tNULL\n\n# route: any" in written
    assert "----\nx\\ty\n(empty)\n\nonlyif" in written
    assert with_answers(written, told) == written
    script = parse(written, "told")
    assert check_all((*script.setup, *script.records), told) == []


def test_render_is_one_line() -> None:
    """No value can be taken for a separator."""
    assert render(("a\tb", "c\nd", None, "", "\\t")) == "a\\tb\tc\\nd\tNULL\t(empty)\t\\\\t"
