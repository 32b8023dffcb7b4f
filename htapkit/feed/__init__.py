"""From a source to a sink; see README.md."""

from __future__ import annotations

from htapkit.feed.copied import CopyReader
from htapkit.feed.feed import FedReport, Feed, FeedOptions, FeedReport, FeedState
from htapkit.feed.reader import Reader, reader_of

__all__ = [
    "CopyReader",
    "FedReport",
    "Feed",
    "FeedOptions",
    "FeedReport",
    "FeedState",
    "Reader",
    "reader_of",
]
