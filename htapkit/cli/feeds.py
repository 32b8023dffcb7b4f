"""Composes a sink for each entry of `sinks`, and the feed that sends to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import structlog

from htapkit.config import Config
from htapkit.errors import SinkFailed
from htapkit.feed import CopyReader, Feed, FeedOptions, Reader, reader_of
from htapkit.hot import Asked, HotStore
from htapkit.metrics import Metrics
from htapkit.model import Finding
from htapkit.sinks import load_sink
from htapkit.spi import Source, load_source

_log = structlog.get_logger("htapkit.run")

Copied = Callable[[str, str], Reader]
"""The place of a sink in the journal of a source's copy; its arguments: source, sink."""


class Feeds:
    """All feeds of one server, by name."""

    def __init__(
        self,
        config: Config,
        sources: Mapping[str, Source],
        metrics: Metrics,
        copied: Copied,
    ) -> None:
        """Nothing is connected before `start`. Raises ConfigError."""
        limits = config.limits
        self._sources = tuple(sources)
        self.by_name: dict[str, Feed] = {}
        for name, sink in config.sinks.items():
            options = FeedOptions(
                config.watch_interval,
                limits.slot_lag,
                limits.slot_lag_time,
                limits.slot_lag_action == "drop",
                sink.tables,
                limits.batch_rows,
                sink.on_gap == "copy",
            )
            place = partial(copied, sink.source, name)
            reader = reader_of(sources[sink.source], name, place)
            loaded = load_sink(sink.connector, config.sink_options(name))
            self.by_name[name] = Feed((name, sink.source), reader, loaded, metrics, options)

    def start(self) -> None:
        """Start all."""
        for feed in self.by_name.values():
            feed.start()

    def keep(self, store: HotStore) -> None:
        """Have the copy keep nothing for sinks that are not there any more."""
        for source in self._sources:
            here = {feed.name for feed in self.by_name.values() if feed.source_name == source}
            for name in store.journal.keep(source, frozenset(here)):
                _log.warning("nothing is kept for a sink that is not configured", sink=name)

    def stop(self) -> None:
        """Stop all; what is committed stays."""
        for feed in self.by_name.values():
            feed.end()  # those whose brokers do not answer are waited for side by side
        for feed in self.by_name.values():
            feed.stop()

    def detach(self, name: str) -> bool:
        """Give up one feed, or all of one source; whether it was a feed's name.

        Raises SourceError, SinkFailed.
        """
        for feed in self.by_name.values():
            if feed.name == name:
                feed.detach()
            elif feed.source_name == name:
                try:
                    feed.detach()
                except SinkFailed as error:
                    # The source keeps nothing for it any more, which is what was asked for.
                    _log.warning("a sink was not told", sink=feed.name, why=str(error))
        return name in self.by_name

    def measures(self) -> Sequence[Callable[[], None]]:
        """What has to be done about once a second. Each raises SourceError."""
        return [partial(Feed.measure, feed) for feed in self.by_name.values()]

    def described(self) -> list[Mapping[str, Any]]:
        """Each, for `status`."""
        return [dataclasses.asdict(feed.report()) for feed in self.by_name.values()]


def detach_stopped(config: Config, name: str) -> None:
    """Detach a source or a sink while no server runs. Raises ConfigError, SourceError, SinkFailed.

    The copy's file is left as it is, but for what it keeps for a sink.
    """
    sources = {
        each: load_source(source.connector, config.source_options(each))
        for each, source in config.sources.items()
    }
    with ExitStack() as stack:

        @cache
        def store() -> HotStore:
            return stack.enter_context(HotStore(config.data_dir / "hot.duckdb"))

        def copied(source: str, sink: str) -> CopyReader:
            return CopyReader(store(), source, sink, _unread)

        if not Feeds(config, sources, Metrics(), copied).detach(name):
            sources[name].detach()
    for source in sources.values():
        source.close()


def _unread(*_: object) -> Asked:
    raise AssertionError("who gives a feed up reads no rows")


def check_sinks(config: Config) -> Mapping[str, Sequence[Finding]]:
    """The preflight of each sink, by name. Raises ConfigError."""
    return {
        name: load_sink(sink.connector, config.sink_options(name)).check()
        for name, sink in config.sinks.items()
    }
