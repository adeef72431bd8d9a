"""However the work is shared and grouped, the store's bytes are the same; several devices, and what is logged."""

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.extraction.conftest import TINY, by_name, files_below
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.errors import TargetError
from vaprompt.extraction import engine, local
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.stages import log_file
from vaprompt.recipes import read_recipe
from vaprompt.store import FeatureStore
from vaprompt.store.writing import GroupWriter


def counted(monkeypatch):
    """Count what is encoded: sizes of batches by stream, and on which devices encoders were loaded."""
    batches, devices = {"image": [], "audio": []}, []

    def load(stream, make):
        def loaded(recipe, device):
            devices.append((stream, device))
            encoder = make(recipe, device)
            encode = encoder.encode

            def seen(items):
                batches[stream].append(len(items))
                return encode(items)

            encoder.encode = seen
            return encoder

        return loaded

    monkeypatch.setattr(local, "image_encoder", load("image", image_encoder))
    monkeypatch.setattr(local, "audio_encoder", load("audio", audio_encoder))
    return batches, devices


def contents(store):
    """Return every file below the streams, which have nothing of the recipe's batch sizes in them."""
    return {name: data for name, data in files_below(store).items() if name != "zarr.json"}


def test_batches_cross_videos_and_two_people_share_one_sound(dataset, recipe, store, tmp_path, monkeypatch):
    batches, _ = counted(monkeypatch)
    extract(dataset, recipe, tmp_path / "s.zarr")
    frames = [len(FeatureStore.open(store).image(video.name).frame_N) for video in dataset.videos]
    assert sum(batches["image"]) == sum(frames)
    # Video by video there would be a batch that is not full at the end of each.
    assert sum(size < 16 for size in batches["image"]) < len([count for count in frames if count % 16])
    read = FeatureStore.open(store)
    windows = {video.media: len(read.audio(video.name).end_W) for video in dataset.videos}
    silent = next(
        video.media for video in dataset.videos if read.notes(video.name) and "silence" in str(read.notes(video.name))
    )
    assert len(windows) < len(dataset.videos)
    assert sum(batches["audio"]) == sum(windows.values()) - windows[silent] + 1
    assert files_below(tmp_path / "s.zarr") == files_below(store)


@pytest.mark.parametrize("batches", [pytest.param((1, 1), marks=pytest.mark.slow), (5, 1), (7, 3), (64, 64)])
def test_bytes_do_not_depend_on_the_size_of_batches(dataset, store, tmp_path, batches):
    other = read_recipe(ExtractRecipe, None, [*TINY, f"image.batch={batches[0]}", f"audio.batch={batches[1]}"])
    extract(dataset, other, tmp_path / "s.zarr")
    assert contents(tmp_path / "s.zarr") == contents(store)


def test_bytes_do_not_depend_on_the_order_of_videos(dataset, recipe, store, tmp_path):
    extract(replace(dataset, videos=dataset.videos[::-1]), recipe, tmp_path / "s.zarr")
    assert contents(tmp_path / "s.zarr") == contents(store)


def test_several_devices_each_get_encoders_and_share_the_videos(dataset, recipe, store, tmp_path, monkeypatch):
    _, devices = counted(monkeypatch)
    extract(dataset, recipe, tmp_path / "s.zarr", device=("cpu", "cpu:0"))
    assert {device for _, device in devices} == {"cpu", "cpu:0"}
    assert len(set(devices)) == len(devices)
    assert contents(tmp_path / "s.zarr") == contents(store)


@pytest.mark.parametrize("count", [2, 5])
def test_several_writers_write_what_one_writes(dataset, store, tmp_path, monkeypatch, count):
    # In batches that cross videos, so that one has something for several writers.
    other = read_recipe(ExtractRecipe, None, [*TINY, "image.batch=64", "audio.batch=64"])
    monkeypatch.setattr(engine, "writers", lambda devices: count)
    extract(dataset, other, tmp_path / "s.zarr")
    assert contents(tmp_path / "s.zarr") == contents(store)


def test_a_fault_of_one_writer_ends_them_all(dataset, recipe, tmp_path, monkeypatch):
    def full(self, marker):
        raise TargetError(tmp_path, fault="no space left", remedy="make room")

    monkeypatch.setattr(engine, "writers", lambda devices: 3)
    monkeypatch.setattr(GroupWriter, "publish", full)
    monkeypatch.setattr(FeatureStore, "write_text", lambda *_: None)
    with pytest.raises(TargetError, match="no space left"):
        extract(dataset, recipe, tmp_path / "s.zarr")


def test_auto_measures_and_says_so_in_the_log(dataset, store, tmp_path):
    auto = read_recipe(ExtractRecipe, None, [*TINY, "image.batch=auto", "audio.batch=auto"])
    few = replace(dataset, videos=dataset.videos[:1])
    extract(few, auto, tmp_path / "s.zarr")
    log = [json.loads(line) for line in log_file(tmp_path / "s.zarr").read_text().splitlines()]
    assert log_file(tmp_path / "s.zarr") == tmp_path / "s.log.jsonl"
    chosen = {line["stream"]: line for line in log if line["event"] == "batch"}
    assert chosen.keys() == {"image", "audio"}
    for line in chosen.values():
        assert line["per_second"][str(line["size"])] >= 0.97 * max(line["per_second"].values())
    (stages,) = (line for line in log if line["event"] == "stages")
    assert stages["items"]["images"] == len(FeatureStore.open(store).image(few.videos[0].name).frame_N)
    assert stages["limit"] in ("encoding", "reading")
    assert stages["seconds"].keys() >= {"read", "resize", "write", "encode images", "encode clips", "wait for batch"}
    assert [line["status"] for line in log if line["event"] == "video"] == ["done"]


def test_sound_in_the_store_is_copied_not_encoded_again(dataset, recipe, store, tmp_path, monkeypatch):
    right = by_name(dataset, next(video.name for video in dataset.videos if video.name.endswith("_right")))
    plain = next(video for video in dataset.videos if video.media == right.media and video is not right)
    extract(replace(dataset, videos=(plain,)), recipe, tmp_path / "s.zarr")
    batches, _ = counted(monkeypatch)
    extract(replace(dataset, videos=(plain, right)), recipe, tmp_path / "s.zarr")
    assert batches["audio"] == []
    ours, theirs = FeatureStore.open(tmp_path / "s.zarr"), FeatureStore.open(store)
    np.testing.assert_array_equal(ours.audio(right.name).embedding_WSD, theirs.audio(right.name).embedding_WSD)
    assert ours.marker("audio", right.name) == theirs.marker("audio", right.name)


def test_what_ends_the_run_ends_all_its_threads(dataset, recipe, tmp_path, monkeypatch):
    def full(self, marker):
        raise TargetError(tmp_path, fault="no space left", remedy="make room")

    before = set(threading.enumerate())
    monkeypatch.setattr(GroupWriter, "publish", full)
    monkeypatch.setattr(FeatureStore, "write_text", lambda *_: None)
    with pytest.raises(TargetError, match="no space left"):
        extract(dataset, recipe, tmp_path / "s.zarr")
    # Lanes and threads that decode are kept for whoever comes next; the heartbeat is told to end, and not waited for.
    until = time.monotonic() + 10
    while left := [
        thread.name
        for thread in set(threading.enumerate()) - before
        if not thread.name.startswith("lane") and thread.name != "decoding"
    ]:
        assert time.monotonic() < until, left
        time.sleep(0.01)
