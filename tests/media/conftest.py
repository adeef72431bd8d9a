"""What the tests of reading share: clips that are written on the spot, and real ones where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media.clips import write_clip

CLIPS = os.environ.get("VAPROMPT_CLIPS")


@pytest.fixture
def clip(tmp_path) -> Callable[..., Path]:
    """Write a clip below the test's own folder; its name is the first argument."""
    return lambda name, **how: write_clip(tmp_path / name, **how)


@pytest.fixture
def clips() -> Path:
    """Return the folder of real clips that VAPROMPT_CLIPS names; the test is skipped without it."""
    if not CLIPS:
        pytest.skip("VAPROMPT_CLIPS is not set")
    return Path(CLIPS)
