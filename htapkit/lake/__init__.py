"""History as Iceberg tables: see README.md."""

from htapkit.lake.archive import SavedFile, SavedTable
from htapkit.lake.lake import Lake
from htapkit.lake.maintenance import LakeStatistics
from htapkit.lake.settings import LakeSettings
from htapkit.lake.writing import WriteLimits

__all__ = ["Lake", "LakeSettings", "LakeStatistics", "SavedFile", "SavedTable", "WriteLimits"]
