"""A store of what was used lately, with a limit on the sum of sizes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """What was used lately. Safe from several threads."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._size = 0
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> V | None:
        """The value, which is then the last one to go."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value. One that is larger than the limit is not kept."""
        with self._lock:
            if key in self._kept:
                self._size -= self._kept.pop(key)[1]
            if size > self._size_max:
                return
            self._kept[key] = (value, size)
            self._size += size
            while self._size > self._size_max:
                _, (_, freed) = self._kept.popitem(last=False)
                self._size -= freed

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)
