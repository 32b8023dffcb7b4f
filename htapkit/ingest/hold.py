"""Holding the copy at exactly one position, for as long as somebody opens a read there."""

from __future__ import annotations

import threading
from collections.abc import Callable

from htapkit.errors import SourceUnavailable
from htapkit.ingest.split import split_batch
from htapkit.model import ChangeBatch, Position
from htapkit.spi import PositionOrder

_WAIT_SECONDS = 120.0


class Hold:
    """Lets one caller at a time stop the follower at a position.

    Steps: the caller asks; the follower stops between two batches; the caller learns the position
    (it lies ahead, because the follower stands still); the follower goes on exactly to it and
    stops; the caller does its work; the follower goes on.
    """

    def __init__(self, order: PositionOrder) -> None:
        """`order` compares positions of the source that is held."""
        self._order = order
        self._one = threading.Lock()
        self._changed = threading.Condition()
        self._phase = "free"  # free -> wanted -> stopped -> running -> there -> free
        self._target: Position | None = None

    def run(
        self, open_position: Callable[[], Position], work: Callable[[Position], object]
    ) -> object:
        """Hold, learn the position, let the follower reach it, do the work, let go."""
        with self._one:
            self._enter("wanted")
            try:
                self._await("stopped")
                target = open_position()
                self._target = target
                self._enter("running")
                self._await("there")
                return work(target)
            finally:
                self._target = None
                self._enter("free")

    def pause_point(self) -> None:
        """Called by the follower between two batches: stands still while it is asked to."""
        with self._changed:
            if self._phase == "wanted":
                self._set("stopped")
                self._changed.wait_for(lambda: self._phase != "stopped", _WAIT_SECONDS)

    def apply(self, batch: ChangeBatch, apply: Callable[[ChangeBatch], None]) -> None:
        """Apply a batch, stopping inside it where the position asked for lies."""
        target = self._target
        if target is None or self._phase != "running":
            apply(batch)
            return
        before, after = split_batch(batch, target, self._order)
        if before is not None:
            apply(before)
        if after is not None or self._order.covers(batch.end, target):
            self._arrive()
        if after is not None:
            apply(after)

    def _arrive(self) -> None:
        with self._changed:
            self._set("there")
            self._changed.wait_for(lambda: self._phase != "there", _WAIT_SECONDS)

    def _enter(self, phase: str) -> None:
        with self._changed:
            self._set(phase)

    def _set(self, phase: str) -> None:
        self._phase = phase
        self._changed.notify_all()

    def _await(self, phase: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._phase == phase, _WAIT_SECONDS):
                raise SourceUnavailable(
                    f"the stream did not come to a stop within {_WAIT_SECONDS:g} s; try again later"
                )
