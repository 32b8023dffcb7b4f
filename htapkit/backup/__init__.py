"""Backup and restore of hot store and lake at one position: see README.md."""

from htapkit.backup.manifest import BackupDamaged
from htapkit.backup.restore import refuse_half_restored, restore
from htapkit.backup.save import back_up, check_target

__all__ = ["BackupDamaged", "back_up", "check_target", "refuse_half_restored", "restore"]
