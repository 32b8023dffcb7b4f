"""Answers as files: see README.md."""

from htapkit.export.bucket import Bucket
from htapkit.export.files import FileFormat, write_file
from htapkit.export.place import ExportFailed, Folder, Place

__all__ = ["Bucket", "ExportFailed", "FileFormat", "Folder", "Place", "write_file"]
