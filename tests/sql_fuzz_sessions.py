"""What a session may do before a statement so that names or texts mean another thing.

Each is a way in and a way out; the ways in stand where a client would write them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

Way = tuple[Sequence[str], Sequence[str]]

_FEW = "SELECT * FROM public.customers WHERE id < 4"
_RESET = ("RESET search_path",)
WAYS: Sequence[Way] = (
    (("SET search_path = other, public",), _RESET),
    (("SET search_path = public, other",), _RESET),
    (("SET search_path = other",), _RESET),
    (("SET search_path = nowhere, public",), _RESET),
    (("SET search_path = ''",), _RESET),
    (("SET search_path = pg_catalog, public",), _RESET),
    (("BEGIN", "SET LOCAL search_path = other, public"), ("COMMIT",)),
    (("BEGIN", "SET search_path = other, public", "ROLLBACK"), ()),
    (("SELECT set_config('search_path', 'other, public', false)",), _RESET),
    ((f"CREATE TEMP TABLE customers AS {_FEW}",), ("DROP TABLE pg_temp.customers",)),
    ((f"CREATE TEMP VIEW customers AS {_FEW}",), ("DROP VIEW pg_temp.customers",)),
    (
        ("SET search_path = public, pg_temp", f"CREATE TEMP TABLE customers AS {_FEW}"),
        ("DISCARD TEMP", "RESET search_path"),
    ),
    ((f"SELECT * INTO TEMP customers FROM ({_FEW}) x",), ("DISCARD TEMP",)),
    (("BEGIN", f"CREATE TEMP TABLE customers ON COMMIT DROP AS {_FEW}"), ("COMMIT",)),
    (("SET timezone = 'Europe/Berlin'",), ("RESET timezone",)),
    (("SET timezone = 'America/New_York'",), ("RESET timezone",)),
    (("SET datestyle = 'SQL, DMY'",), ("RESET datestyle",)),
    (("SET extra_float_digits = 0",), ("RESET extra_float_digits",)),
    (("BEGIN ISOLATION LEVEL REPEATABLE READ",), ("COMMIT",)),
    (("BEGIN",), ("ROLLBACK",)),
)


def way(source: random.Random) -> Way:
    """Most statements find the session as it was opened."""
    return source.choice(WAYS) if source.random() < 0.3 else ((), ())
