"""The parts of a server that keep history: lake, jobs, the line between hot and lake."""

from __future__ import annotations

from htapkit import tier
from htapkit.config import Config
from htapkit.engines import LakeEngine, load_engine
from htapkit.hot import HotStore
from htapkit.jobs import JobRunner
from htapkit.lake import Lake, LakeSettings
from htapkit.metrics import Metrics
from htapkit.tier import Erasure, Imports, Parts, Retention, Tierer, TierService, Upkeep


def lake_settings(config: Config) -> LakeSettings:
    """Where the configuration puts the lake: inside `data_dir` unless it says otherwise."""
    local = LakeSettings.local(config.data_dir)
    wanted = config.lake
    # Of a SQL catalog without `uri` only the rest was said, such as how to reach the storage.
    sql = wanted.catalog.get("type", "sql") == "sql"
    catalog = {**local.catalog, **wanted.catalog} if sql else wanted.catalog
    return LakeSettings(catalog=catalog, warehouse=wanted.warehouse or local.warehouse)


class History:
    """Jobs and tiering of one server."""

    def __init__(self, config: Config, store: HotStore, lake: Lake, metrics: Metrics) -> None:
        """Nothing runs before `start`."""
        self.lake = lake
        self.jobs = JobRunner()
        tierer = Tierer(store, lake, metrics, config.limits.tier_rows)
        # A statement that still runs reads a version that may have been flipped away since.
        keep_seconds = max(config.lake.keep, config.limits.statement_time)

        def engine(name: str) -> LakeEngine:
            return load_engine(name, config.engines.get(name, {}))

        upkeep = Upkeep(store, lake, keep_seconds, engine)
        retention = Retention(store, lake, metrics)
        erasure = Erasure(store, lake, tierer, retention, keep_seconds + config.lake.interval)
        parts = Parts(tierer, retention, erasure, upkeep)
        self.brought = tier.History(store, lake, config.data_dir / "rejected", keep_seconds)
        self.folder = config.imports.folder
        self.imports = Imports(store, lake, config.imports.interval)
        self.tiering = TierService(config, store, parts, self.jobs, metrics)

    def start(self) -> None:
        """Mend what a former process left, then follow the schedule."""
        self.jobs.start()
        self.tiering.start()

    def stop(self) -> None:
        """End the schedule, and wait for the job in hand."""
        self.tiering.stop()
        self.jobs.stop()
