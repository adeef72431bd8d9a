"""What several tests of pages show."""

from pathlib import Path

import pytest

from tests.media.clips import write_clip
from tests.report.playing import TIMES, sound


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 8 s whose rate varies, with a sound."""
    folder = tmp_path_factory.mktemp("clip") / "a folder"
    folder.mkdir()
    return write_clip(folder / "talk.mp4", times_ms=TIMES, size=(320, 240), sound=sound(8))
