"""Stores that others write into while they are packed, listed or pushed: what is made of them is of one state."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.store.stores import add, filled
from vaprompt.errors import StoreError
from vaprompt.progress import Silent, Task
from vaprompt.store import FeatureStore, beginning
from vaprompt.store.groups import read_group
from vaprompt.store.index import INDEX_FILE, Index, build_index, index_bytes
from vaprompt.store.layout import STREAMS, write_file
from vaprompt.store.pull import pull
from vaprompt.store.sharing.packed import pack
from vaprompt.store.storage import Folder, Storage
from vaprompt.store.verification import verify


class Meanwhile(Silent):
    """Does something once a group is done."""

    def __init__(self, group: str, action: Callable[[], object]) -> None:
        self.group, self.action = group, action

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        yield self

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        if note == self.group:
            self.action()


def test_a_video_that_comes_during_packing_is_not_in_the_archives_index(tmp_path):
    store = filled(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zarr.zip", progress=Meanwhile("audio/video1", lambda: add(store, "later")))
    packed = FeatureStore.open(tmp_path / "s.zarr.zip")
    assert packed.videos() == ["video1"]
    assert verify(tmp_path / "s.zarr.zip", deep=True).ok


def test_a_video_that_is_made_anew_during_packing_is_not_packed_in_part(tmp_path):
    store = filled(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"audio/video1: was made anew while it was being packed; run the same"):
        pack(
            store.path,
            tmp_path / "s.zarr.zip",
            progress=Meanwhile("audio/video1", lambda: add(store, "video1", seed=77)),
        )
    assert not (tmp_path / "s.zarr.zip").exists()


@pytest.mark.parametrize("frames", [30, 31])
def test_a_video_that_is_made_anew_while_it_is_read_is_not_called_damaged(tmp_path, frames):
    store = filled(tmp_path / "s.zarr")
    group = read_group(Folder(store.path), "image/video1")
    assert group is not None
    add(store, "video1", frames=frames, seed=77)
    with pytest.raises(StoreError, match=r"image/video1: was made anew, or removed, while it was being read; run the"):
        dict(group.contents())
    store.remove("image", "video1")
    with pytest.raises(StoreError, match="was made anew, or removed"):
        dict(group.contents())


@pytest.mark.parametrize("frames", [30, 31])
def test_features_that_are_made_anew_after_their_marker_was_read_are_not_taken_for_those_of_the_marker(
    tmp_path, frames
):
    writing = filled(tmp_path / "s.zarr")
    reading = FeatureStore.open(tmp_path / "s.zarr")
    for stream in STREAMS:
        reading.marker(stream, "video1")  # as a training does, which keeps features under the digest of markers
    add(writing, "video1", frames=frames, seed=77)
    for read in (
        reading.image,
        reading.audio,
        reading.image_times,
        lambda name: [*reading.embedding_pieces("image", name)],
    ):
        with pytest.raises(
            StoreError, match=r"/video1: was made anew, or removed, while it was being read; run the same"
        ):
            read("video1")
    reading.forget("video1")
    assert len(reading.image("video1").frame_N) == len(reading.labels("video1").time_F) == frames


def test_a_video_that_is_just_being_replaced_is_not_called_damaged(tmp_path):
    store = filled(tmp_path / "s.zarr")
    replaced = Meanwhile("audio/video1", lambda: store.remove("image", "video1"))  # the first of two renames
    with pytest.raises(StoreError, match=r"image/video1: was removed, or is just being replaced .*; run the same comm"):
        pack(store.path, tmp_path / "s.zarr.zip", progress=replaced)
    assert not (tmp_path / "s.zarr.zip").exists()


def test_an_index_that_was_begun_before_a_video_was_moved_is_not_believed(tmp_path, monkeypatch):
    store, other = filled(tmp_path / "s.zarr"), FeatureStore.open(tmp_path / "s.zarr")

    def built(storage: Storage) -> Index:
        before = build_index(storage)
        other.move("video1", "test")
        return before

    monkeypatch.setattr("vaprompt.store.feature_store.build_index", built)
    store.write_index()
    assert FeatureStore.open(store.path).split("video1") == "test"
    monkeypatch.undo()
    store.write_index()
    assert verify(store.path).ok


def test_an_index_that_was_begun_before_a_pull_is_not_believed(tmp_path, monkeypatch):
    source, target = filled(tmp_path / "s.zarr"), filled(tmp_path / "t.zarr")
    source.move("video1", "test")
    before = build_index(target.storage)
    monkeypatch.setattr("vaprompt.store.feature_store.FeatureStore.write_index", lambda self: None)
    pull(source.path, target.path)
    write_file(target.path / INDEX_FILE, index_bytes(before))
    assert FeatureStore.open(target.path).split("video1") == "test"


def test_a_store_that_another_begins_at_the_same_moment_is_gone_on_with(tmp_path, monkeypatch):
    place, late = tmp_path / "s.zarr", beginning._make_folder

    def begun_by_another(path, *, copying):
        monkeypatch.setattr(beginning, "_make_folder", late)
        filled(place)
        late(path, copying=copying)

    monkeypatch.setattr(beginning, "_make_folder", begun_by_another)
    store = filled(place, videos={"video2": "validation"})
    assert store.videos() == ["video1", "video2"]
    assert verify(place, deep=True).ok
