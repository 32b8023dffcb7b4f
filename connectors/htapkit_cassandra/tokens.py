"""The ring's tokens, cut into ranges that together are each partition once. Pure.

Tokens are those of Murmur3Partitioner: a partition's is above the smallest and at most the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

PARTITIONER: Final = "org.apache.cassandra.dht.Murmur3Partitioner"
SMALLEST: Final = -(2**63)
LARGEST: Final = 2**63 - 1
RANGES_MIN: Final = 16  # so that one is read in a moment where there are few tokens
RANGES_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the nodes say of themselves that a scan depends on."""

    version: tuple[int, ...]  # of the oldest of them
    partitioner: str
    tokens: Mapping[str, tuple[int, ...]]  # by host id


@dataclass(frozen=True, slots=True)
class TokenRange:
    """Partitions with a token behind `after`, up to and with `upto`."""

    after: int
    upto: int
    node: str  # host id of the first replica of most of them, "" = not known

    def __str__(self) -> str:
        """As a split's token holds it."""
        return f"{self.after}:{self.upto}:{self.node}"


def parse(text: str) -> TokenRange:
    """What `str` of a range said."""
    after, upto, node = text.split(":")
    return TokenRange(int(after), int(upto), node)


def ranges(
    tokens: Mapping[str, Sequence[int]], least: int = RANGES_MIN, most: int = RANGES_MAX
) -> list[TokenRange]:
    """From the smallest token to the largest, none left out, in order.

    `tokens` are those of each node. They are cut at the nodes' tokens, so that each has mostly one
    first replica, and again where that gives fewer than `least`; of more than `most` some are one.
    """
    owners = {token: node for node, each in tokens.items() for token in each}
    bounds = sorted({*owners} - {SMALLEST, LARGEST})
    bounds = bounds[:: max(1, -(-len(bounds) // (most - 1)))]
    first = owners[bounds[0]] if bounds else min(tokens, default="")
    owners[LARGEST] = first  # of what lies behind the last token
    widest = max(1, (LARGEST - SMALLEST) // least)
    found = []
    for after, upto in pairwise([SMALLEST, *bounds, LARGEST]):
        for low, high in _cut(after, upto, widest):
            found.append(TokenRange(low, high, owners[upto]))
    return found


def _cut(after: int, upto: int, widest: int) -> Iterator[tuple[int, int]]:
    """In parts of about the same width, none wider than that."""
    parts = -(-(upto - after) // widest)
    at = [after + (upto - after) * number // parts for number in range(parts + 1)]
    yield from pairwise(at)
