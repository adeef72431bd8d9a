"""What the tests of reading share: clips that are written on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media.clips import write_clip


@pytest.fixture
def clip(tmp_path) -> Callable[..., Path]:
    """Write a clip below the test's own folder; its name is the first argument."""
    return lambda name, **how: write_clip(tmp_path / name, **how)
