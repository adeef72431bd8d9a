"""A server for each test that changes something in it."""

from collections.abc import Iterator

import pytest

from tests.serving.service import Served, served


@pytest.fixture
def server() -> Iterator[Served]:
    """Return a server with usual limits."""
    with served() as running:
        yield running
