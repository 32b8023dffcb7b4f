"""jsonb documents: `document ->> 'key'`, also below other keys (`document -> 'a' ->> 'b'`).

A document is kept as PostgreSQL prints it, so strings, truth values and whole numbers are read
from it as PostgreSQL would; where a fraction, an object or an array is asked for as text, that is
an error. `json` may hold a key twice, and is left to the source.
"""

from __future__ import annotations

import re

from sqlglot import exp

from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.operands import tight
from htapkit.plan.operators import guard
from htapkit.plan.unproven import UnprovenError

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]*")


def text_of_key(context: Context, node: exp.Expression) -> Expr:
    """`document ->> 'key'` as text, NULL where there is none."""
    keys = [_key(node)]
    inner: exp.Expression = node.this
    while isinstance(inner, (exp.Paren, exp.JSONExtract)):
        if isinstance(inner, exp.JSONExtract):
            keys.append(_key(inner))
        inner = inner.this
    value = tight(context, inner)
    if value.type != "jsonb" or value.category not in {"", "b"}:
        raise UnprovenError(f"{value.type} ->> a key", "only of jsonb")
    path = "$" + "".join(f'."{key}"' for key in reversed(keys))
    kind = f"json_type({value.sql}, '{path}')"
    bad = f"{kind} NOT IN ('VARCHAR', 'BOOLEAN', 'NULL', 'UBIGINT', 'BIGINT')"
    sql = guard(bad, f"json_extract_string({value.sql}, '{path}')", "a text of a document")
    return Expr(sql, "text", binary=False, database_collation=True, doubtful=True)


def _key(node: exp.Expression) -> str:
    path = node.args["expression"]
    steps = path.expressions if isinstance(path, exp.JSONPath) else []
    if len(steps) == 2 and isinstance(steps[1], exp.JSONPathKey):
        key = steps[1].this
        if isinstance(key, str) and _KEY.fullmatch(key):
            return key
    raise UnprovenError("->>", "of something else than a plain key")
