"""What all tests share: the fixtures, one file for each thing, and the order of the run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that others use, too: no test is timed.
settings.register_profile(
    "htapkit", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("htapkit")

pytest_plugins = [
    "tests.fix_postgres",
    "tests.fix_stack",
    "tests.fix_mirror",
    "tests.fix_cassandra",
    "tests.fix_s3",
]

LONG_SECONDS_MAX = 2400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a run that is cut short has then seen the most."""
    items.sort(key=lambda item: item.get_closest_marker("long") is not None)
    for item in items:
        # Whichever is the first with a Cassandra starts it, and has its jars fetched.
        slow = item.get_closest_marker("long") or item.get_closest_marker("cassandra")
        if slow and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS_MAX))
