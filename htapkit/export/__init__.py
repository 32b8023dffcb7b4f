"""Answers as files: see README.md."""

from htapkit.export.files import FileFormat, write_file
from htapkit.export.place import Place

__all__ = ["FileFormat", "Place", "write_file"]
