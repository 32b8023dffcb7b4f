"""What all tests share: the fixtures, one file for each thing, and the order of the run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

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
    "tests.fix_loads",
    "tests.fix_kafka",
    "tests.fix_sink",
    "tests.fix_ring",
    "tests.fix_s3",
    "tests.fix_agent",
]

# Programs that make way for all others on their machine (`nice`) would hardly run beside tests that
# fill it: here each is like any other.
os.environ["PATH"] = f"{Path(__file__).parent / 'bin'}:{os.environ['PATH']}"

LONG_SECONDS_MAX = 2400
RING = "tests/cassandra/test_ring.py"
LONG_UNTIL = "HTAPKIT_LONG_UNTIL"
"""A variable, in seconds since 1970: after it no long test is begun, those left are skipped."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What matters most first: a run that is cut short has then seen the most."""
    items.sort(key=_turn)
    for item in items:
        # Whichever is the first with a Cassandra starts it, and has its jars fetched.
        slow = item.get_closest_marker("long") or item.get_closest_marker("cassandra")
        if slow and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS_MAX))


def _turn(item: pytest.Item) -> int:
    """Quick tests; of the long ones the longest, histories, kills and rings, others, small ones."""
    if item.get_closest_marker("long") is None:
        return 0
    if "test_tier_steps" in item.nodeid:
        return 1
    if "test_relay_fuzz" in item.nodeid:
        return 4
    early = ("tests/property/", "kill", RING)
    return 2 if any(word in item.nodeid for word in early) else 3


class OneRing(LoadScopeScheduling):
    """Each test goes to the next worker that is free; but those with a ring all go to one."""

    def _split_scope(self, nodeid: str) -> str:
        return RING if RING in nodeid else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneRing | None:
    """That of `make test-long`."""
    return OneRing(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no long test when its time is up."""
    until = os.environ.get(LONG_UNTIL)
    if until and item.get_closest_marker("long") and time.time() > float(until):
        pytest.skip(f"not begun: the time for long tests was up ({LONG_UNTIL})")
