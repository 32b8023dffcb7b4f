"""The signals inside the planner: what is not proven equal, and why. They never leave it."""

from __future__ import annotations


class UnprovenError(Exception):
    """A construct that may not be answered locally; EXPLAIN (ROUTE) shows the text."""

    def __init__(self, construct: str, why: str, *, by_value: bool = False) -> None:
        """Name the construct as its author wrote it, and say what is missing.

        `by_value`: another literal in the same place could have been proven.
        """
        super().__init__(f"{construct}: {why}")
        self.construct = construct
        self.why = why
        self.by_value = by_value


class LocalOnlyError(Exception):
    """A statement that PostgreSQL must never see, and that cannot be answered here either."""

    def __init__(self, why: str, sqlstate: str = "0A000") -> None:
        """`sqlstate` is what the client gets."""
        super().__init__(why)
        self.sqlstate = sqlstate
