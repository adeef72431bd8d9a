"""The index is a cache of the markers: it spares reading them, and never says what they do not."""

import json
import shutil

import pytest

from tests.store.stores import add, filled
from vaprompt.store import FeatureStore
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.sharing.packed import pack
from vaprompt.store.storage import Folder


@pytest.fixture
def reads(monkeypatch):
    """Return the keys that are read from folders."""
    seen: list[str] = []
    read = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, key, *most: (seen.append(key), read(self, key, *most))[1])
    return seen


def test_a_store_is_told_from_one_read(tmp_path, reads):
    store = filled(tmp_path / "s.zarr", {f"video{number}": "train" for number in range(5)})
    before = FeatureStore.open(store.path).info()
    notes = store.notes("video0")
    store.write_index()
    reads.clear()
    again = FeatureStore.open(store.path)
    assert again.info() == before
    assert again.videos("train") == [f"video{number}" for number in range(5)]
    assert again.notes("video0") == notes
    assert not [key for key in reads if key.count("/") == 2]
    assert reads.count(INDEX_FILE) == 1


def test_looking_at_every_video_of_a_store_with_an_old_index_reads_that_once(tmp_path, reads):
    store = filled(tmp_path / "s.zarr", {f"video{number}": "train" for number in range(5)})
    store.write_index()
    add(store, "later", "test")
    reads.clear()
    opened = FeatureStore.open(store.path)
    assert [opened.split(video) for video in opened.videos()] == ["test", *["train"] * 5]
    assert [opened.notes(video) for video in opened.videos()]
    assert reads.count(INDEX_FILE) == 1


def test_no_more_markers_are_kept_than_a_few_thousand(tmp_path, monkeypatch):
    monkeypatch.setattr("vaprompt.store.listing.MOST_MARKERS", 4)
    store = filled(tmp_path / "s.zarr", {f"video{number}": "train" for number in range(5)})
    for _ in range(2):
        assert all(store.has(stream, video) for stream in store.streams for video in store.videos())
        assert len(store._markers) <= 4


def test_what_is_published_or_removed_later_is_seen(tmp_path):
    store = filled(tmp_path / "s.zarr", {"a": "train"})
    store.write_index()
    add(store, "b", "test")
    assert FeatureStore.open(store.path).videos() == ["a", "b"]
    store.write_index()
    opened = FeatureStore.open(store.path)
    assert opened.videos() == ["a", "b"]
    shutil.rmtree(store.path / "image" / "a")
    assert opened.videos() == ["b"]
    assert FeatureStore.open(store.path).videos() == ["b"]


def test_replacing_a_video_is_seen(tmp_path):
    store = filled(tmp_path / "s.zarr", {"a": "train"})
    store.write_index()
    add(store, "a", "validation", frames=7)
    assert FeatureStore.open(store.path).split("a") == "validation"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": 1}'])
def test_a_damaged_or_forged_index_counts_for_nothing(tmp_path, content):
    store = filled(tmp_path / "s.zarr", {"a": "train"})
    store.write_index()
    index = store.path / INDEX_FILE
    forged = json.loads(index.read_text())
    forged["markers"]["labels"]["a"]["split"] = "test"
    for damaged in (content, json.dumps(forged).encode()):
        index.write_bytes(damaged)
        assert FeatureStore.open(store.path).split("a") == "train"


def test_it_is_written_once_for_one_state(tmp_path):
    store = filled(tmp_path / "s.zarr")
    store.write_index()
    before = (store.path / INDEX_FILE).stat().st_mtime_ns
    store.write_index()
    assert (store.path / INDEX_FILE).stat().st_mtime_ns == before


def test_an_index_that_is_too_large_is_neither_taken_nor_written(tmp_path, monkeypatch):
    store = filled(tmp_path / "s.zarr", {"a": "train", "b": "test"})
    told = FeatureStore.open(store.path).info()
    store.write_index()
    monkeypatch.setattr("vaprompt.store.index.MOST_INDEX", 100)
    again = FeatureStore.open(store.path)
    assert again.info() == told
    assert again.videos() == ["a", "b"]
    again.write_index()
    assert not (store.path / INDEX_FILE).exists()
    pack(store.path, tmp_path / "s.zarr.zip")
    packed = FeatureStore.open(tmp_path / "s.zarr.zip")
    assert packed.storage.size(INDEX_FILE) is None
    assert packed.info() == told
