"""Catalog rows as columns, and how each is selected."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from htapkit.model import Storage, TableId
from htapkit_postgres.types import Attribute, column, projection, quoted, quoted_table

INT4 = Attribute("n", 3, True, "pg_catalog", "int4", 23, "b", -1)
TEXT = Attribute("t", 1, False, "pg_catalog", "text", 25, "b", -1, "c", "en_US.UTF-8")


def test_quoted() -> None:
    assert quoted('a "b"') == '"a ""b"""'
    assert quoted_table(TableId("s", "Public", "o'r")) == '"Public"."o\'r"'


def test_column() -> None:
    made = column(INT4)
    assert (made.name, made.ordinal, made.nullable, made.arrow) == ("n", 3, False, pa.int32())
    assert column(INT4, Storage.TEXT).arrow == pa.string()


@pytest.mark.parametrize(
    ("typmod", "arrow"),
    [
        (-1, pa.string()),
        (((12 << 16) | 2) + 4, pa.decimal128(12, 2)),
        (((38 << 16) | 0) + 4, pa.decimal128(38, 0)),
        (((39 << 16) | 0) + 4, pa.string()),
        (((5 << 16) | (0x800 - 2)) + 4, pa.string()),  # numeric(5,-2)
        (((2 << 16) | 4) + 4, pa.string()),  # numeric(2,4)
    ],
)
def test_numeric(typmod: int, arrow: pa.DataType) -> None:
    attribute = replace(INT4, type_name="numeric", type_oid=1700, typmod=typmod)
    assert column(attribute).arrow == arrow
    assert projection(column(attribute)) == '"n"::text'


def test_a_users_type_with_a_built_in_name() -> None:
    attribute = replace(INT4, type_schema="odd", type_oid=16400, type_kind="e")
    made = column(attribute)
    assert (made.type.name, made.type.category, made.arrow) == ("odd.int4", "e", pa.string())
    assert not made.computable


@pytest.mark.parametrize(
    ("provider", "locale", "expected"),
    [
        ("c", "C", True),
        ("c", "POSIX", True),
        ("b", "C.UTF-8", True),
        ("c", "C.UTF-8", False),
        ("c", "en_US.UTF-8", False),
        ("i", "und", False),
    ],
)
def test_binary_order(provider: str, locale: str, *, expected: bool) -> None:
    attribute = replace(TEXT, collation_provider=provider, collation_locale=locale)
    assert column(attribute).binary_order is expected
    # Blanks at the end do not count in a comparison, but they do in our bytes.
    padded = replace(attribute, type_name="bpchar", type_oid=1042, typmod=9)
    assert column(padded).binary_order is False


def test_order_of_other_types() -> None:
    assert column(INT4).binary_order
    assert column(replace(INT4, type_name="uuid", type_oid=2950)).binary_order
    assert not column(replace(INT4, type_name="jsonb", type_oid=3802)).binary_order


def test_deterministic() -> None:
    assert column(TEXT).deterministic
    assert not column(replace(TEXT, collation_deterministic=False)).deterministic
    endless = replace(TEXT, type_name="bpchar", type_oid=1042)
    assert not column(endless).deterministic
    assert column(replace(endless, typmod=9)).deterministic


@pytest.mark.parametrize(
    ("type_name", "oid", "kind", "native", "as_text"),
    [
        ("int8", 20, "b", '"n"', '"n"::text'),
        ("bool", 16, "b", '"n"', 'textin(boolout("n"))'),
        ("bpchar", 1042, "b", '"n"', '"n"'),
        ("uuid", 2950, "b", '"n"::text', '"n"::text'),
        ("inet", 869, "b", 'textin(inet_out("n"))', 'textin(inet_out("n"))'),
        ("int4range", 3904, "r", 'textin(range_out("n"))', 'textin(range_out("n"))'),
        (
            "mood",
            16400,
            "e",
            'textin(enum_out(coalesce(NULL, "n")))',
            'textin(enum_out(coalesce(NULL, "n")))',
        ),
    ],
)
def test_projection(type_name: str, oid: int, kind: str, native: str, as_text: str) -> None:
    attribute = replace(INT4, type_name=type_name, type_oid=oid, type_kind=kind)
    assert projection(column(attribute)) == native
    assert projection(column(attribute, Storage.TEXT)) == as_text


def test_projection_of_a_users_base_type_never_casts() -> None:
    attribute = replace(INT4, type_name="hstore", type_oid=16500)
    assert projection(column(attribute)).startswith("CASE WHEN num_nonnulls")
