"""`htapkit.routes`: the newest statements of one user, without a value of anybody's."""

from __future__ import annotations

import pytest

from htapkit.plan import SessionView, plan
from htapkit.plan.skeleton import without_values
from htapkit.serve.pgwire.recent import KEPT_MAX, Recent
from tests.unit.htapkit.plan.catalogs import SHOP

_VIEW = SessionView("shop")


def _note(recent: Recent, user: str, sql: str, why: str = "") -> None:
    recent.note(user, sql.encode(), plan(sql, SHOP, _VIEW), why)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT 1", "SELECT ?"),
        ("select a from t1 where b = 'it''s' and \"c 2\" > $1", None),
        ("SELECT a FROM t WHERE n > 1e5 OR n > .5 OR n > 0x1F OR n > 1_000", None),
        ("SELECT $tag$ secret $tag$", "SELECT …"),
        ("  update t set a = E'sec\\'ret'", "update …"),
        ("/* secret */ SELECT 1", "…"),
        ("SELECT 'secret", "SELECT …"),
    ],
)
def test_no_literal_is_shown(text: str, shown: str | None) -> None:
    """Whatever its form; where the text is not sure to be read right, only its first word."""
    expected = {
        "select a from t1": 'select a from t1 where b = ? and "c ?" > $1',
        "SELECT a FROM t W": "SELECT a FROM t WHERE n > ? OR n > ? OR n > ? OR n > ?",
    }
    wanted = shown or next(v for k, v in expected.items() if text.startswith(k))
    assert without_values(text) == wanted


def test_a_user_sees_its_own_newest_first() -> None:
    """With the route, and the reason of it."""
    recent = Recent()
    _note(recent, "anna", "SELECT count(*) FROM orders WHERE note = 'secret'")
    _note(recent, "bert", "SELECT id FROM orders WHERE note ~ 'secret'")
    _note(recent, "anna", "SELECT id FROM orders WHERE note ~ 'secret'")
    second, first = recent.of("anna")
    assert (first.route, first.reason) == ("hot", "proven equal")
    assert first.statement == "SELECT count(*) FROM orders WHERE note = ?"
    assert second.route == "source"
    assert "regexplike" in second.reason
    assert len(list(recent.of("bert"))) == 1
    assert not list(recent.of(""))


def test_what_sent_it_to_the_source_after_all() -> None:
    """The plan was local, the answer was not."""
    recent = Recent()
    _note(recent, "", "SELECT count(*) FROM orders", "the copy is 12 s behind")
    (found,) = recent.of("")
    assert (found.route, found.reason) == ("source", "the copy is ? s behind")


def test_it_forgets_and_leaves_out() -> None:
    """Bounded; transactions, settings and its own views are not told."""
    recent = Recent()
    for sql in ("BEGIN", "COMMIT", "SET TimeZone = 'UTC'", "SELECT * FROM htapkit.routes"):
        _note(recent, "", sql)
    assert not list(recent.of(""))
    for number in range(KEPT_MAX + 5):
        _note(recent, "", f"SELECT count(*) FROM orders WHERE id > {number}")
    assert len(list(recent.of(""))) == KEPT_MAX
