"""The errors of the libraries below, as ours: translated in this one place."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyiceberg import exceptions
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ValidationException,
)
from pyiceberg.io import FileIO
from sqlalchemy.exc import SQLAlchemyError

from htapkit.errors import HtapkitError, LakeFailed

_log = logging.getLogger(__name__)

# pyiceberg's errors have no root; what it cannot do, or does not find in a file, is plain Python's.
FOREIGN: tuple[type[Exception], ...] = (
    *(
        each
        for each in vars(exceptions).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ),
    SQLAlchemyError,
    pa.ArrowException,
    OSError,
    NotImplementedError,
    ValueError,
)

CERTAINLY_NOT_COMMITTED = (CommitFailedException, ValidationException, HtapkitError)
"""After these nothing was committed; after any other error it may have been."""

CONFLICT = CommitFailedException
UNKNOWN = CommitStateUnknownException


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise the libraries' errors as LakeFailed: `doing` says what was tried, and on which."""
    try:
        yield
    except HtapkitError:
        raise
    except FOREIGN as error:
        raise LakeFailed(f"{doing}: {error or type(error).__name__}") from error


def delete_quietly(io: FileIO, paths: Iterable[str]) -> int:
    """Delete files that nobody needs; how many went. What cannot be deleted is logged only."""
    deleted = 0
    for path in paths:
        try:
            io.delete(path)
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowException) as error:
            _log.warning("a file of the lake stays behind", extra={"path": path, "why": str(error)})
        else:
            deleted += 1
    return deleted
