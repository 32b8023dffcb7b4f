"""An S3 server for tests, where this machine has one or can build it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from htapkit.testing.s3 import NoS3Server, S3Server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests of the module; each makes buckets of its own."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
    except NoS3Server as error:
        pytest.skip(str(error))
    with server:
        yield server
