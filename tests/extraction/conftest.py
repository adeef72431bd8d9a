"""A data set of six short videos with all that Aff-Wild2 contains, and what tiny random encoders make of it."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import draw_dataset
from vaprompt.datasets.base import Dataset, Video
from vaprompt.datasets.description import open_dataset
from vaprompt.extraction import local
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.recipes import read_recipe
from vaprompt.store.index import INDEX_FILE

TINY = (
    "image.model=embedded",
    "image.weights=random:0",
    "audio.model=embedded",
    "audio.weights=random:0",
    "audio.window=2.0",
    "audio.hop=0.7",
    "audio.steps=4",
    "image.batch=16",
    "audio.batch=4",
)


@pytest.fixture(scope="module")
def fake_encoders():
    """Let a module's extractions have encoders that take no time."""
    from tests.extraction.forge import FakeImages, FakeSounds  # which imports from here

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "image_encoder", lambda *_: FakeImages(0.0))
        patch.setattr(local, "audio_encoder", lambda *_: FakeSounds())
        yield


@pytest.fixture(scope="session")
def recipe() -> ExtractRecipe:
    return read_recipe(ExtractRecipe, overrides=TINY)


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("extraction") / "data"
    draw_dataset(folder, videos=6, seconds=2.5, seed=3)
    return folder


@pytest.fixture(scope="session")
def dataset(root) -> Dataset:
    return open_dataset(root)


@pytest.fixture(scope="session")
def store(dataset, recipe, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("extracted") / "tiny.zarr"
    report = extract(dataset, recipe, path)
    assert report.failed == {}
    assert report.done == [video.name for video in dataset.videos]
    return path


@pytest.fixture
def own(root, tmp_path) -> Dataset:
    """Return a copy of the data set that a test may change, with the same modification times."""
    shutil.copytree(root, tmp_path / "data", copy_function=shutil.copy2)
    return open_dataset(tmp_path / "data")


def files_below(folder: Path) -> dict[str, bytes]:
    """Return all files but the index, which is a cache with times of this disk in it."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if name != INDEX_FILE}


def by_name(dataset: Dataset, name: str) -> Video:
    (found,) = (video for video in dataset.videos if video.name == name)
    return found


def labelled(dataset: Dataset) -> Video:
    """Return the video with the most annotation rows of those that have an mp4 of their own."""
    media = [video.media for video in dataset.videos]
    own = (video for video in dataset.videos if video.media is not None and media.count(video.media) == 1)
    annotated = [video for video in own if video.annotation is not None and video.media.suffix == ".mp4"]
    return max(annotated, key=lambda video: video.annotation.stat().st_size)


def touch_later(path: Path) -> None:
    """Give a file that was overwritten a later time, however coarse the clock of the disk is."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
