"""Composes a sink for each entry of `sinks`, and the feed that sends to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from htapkit.config import Config
from htapkit.errors import SinkFailed
from htapkit.feed import Feed, FeedOptions, reader_of
from htapkit.metrics import Metrics
from htapkit.model import Finding
from htapkit.sinks import load_sink
from htapkit.spi import Source, load_source

_log = structlog.get_logger("htapkit.run")


class Feeds:
    """All feeds of one server, by name."""

    def __init__(self, config: Config, sources: Mapping[str, Source], metrics: Metrics) -> None:
        """Nothing is connected before `start`. Raises ConfigError."""
        limits = config.limits
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
            reader = reader_of(sources[sink.source], name, sink.source)
            loaded = load_sink(sink.connector, config.sink_options(name))
            self.by_name[name] = Feed((name, sink.source), reader, loaded, metrics, options)

    def start(self) -> None:
        """Start all."""
        for feed in self.by_name.values():
            feed.start()

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

    The copy's file is left as it is.
    """
    sources = {
        each: load_source(source.connector, config.source_options(each))
        for each, source in config.sources.items()
    }
    if not Feeds(config, sources, Metrics()).detach(name):
        sources[name].detach()
    for source in sources.values():
        source.close()


def check_sinks(config: Config) -> Mapping[str, Sequence[Finding]]:
    """The preflight of each sink, by name. Raises ConfigError."""
    found = {}
    for name, sink in config.sinks.items():
        source = load_source(
            config.sources[sink.source].connector, config.source_options(sink.source)
        )
        reader_of(source, name, sink.source).close()
        source.close()
        found[name] = load_sink(sink.connector, config.sink_options(name)).check()
    return found
