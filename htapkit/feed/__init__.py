"""From a source to a sink; see README.md."""

from __future__ import annotations

from htapkit.feed.feed import FedReport, Feed, FeedOptions, FeedReport, FeedState, reader_of

__all__ = ["FedReport", "Feed", "FeedOptions", "FeedReport", "FeedState", "reader_of"]
