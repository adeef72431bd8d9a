"""Training begins while features are still being read: the same numbers, faults told, and nothing half kept."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.planted import plant_store
from tests.training.small import contents, recipe
from tests.training.test_kept import RECIPE, whole
from vaprompt import FeatureStore
from vaprompt.errors import StoreError
from vaprompt.training import kept
from vaprompt.training.coming import Coming
from vaprompt.training.data import Resident
from vaprompt.training.keeping import settle
from vaprompt.training.run import train
from vaprompt.training.stacked import train_stacked


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST", 1)
    return tmp_path / "cache" / "features"


def batches(resident: Resident) -> list[torch.Tensor]:
    splits = [resident.split(split, RECIPE) for split in ("train", "validation")]
    return [part for split in splits for part in split.batch(torch.arange(len(split.windows)))]


@pytest.mark.parametrize("at_least", [1, 2**40])
def test_batches_are_those_of_features_that_were_waited_for(store, cache, monkeypatch, at_least):
    monkeypatch.setattr(kept, "LEAST", at_least)
    coming = batches(Resident(FeatureStore.open(store), RECIPE, wait=False))
    settle()
    monkeypatch.setattr(kept, "LEAST", 2**40)
    for one, two in zip(coming, batches(Resident(FeatureStore.open(store), RECIPE)), strict=True):
        assert torch.equal(one, two)
    if at_least == 1:
        monkeypatch.setattr(FeatureStore, "embedding_pieces", None)
        for one, two in zip(coming, batches(Resident(FeatureStore.open(store), RECIPE, wait=False)), strict=True):
            assert torch.equal(one, two)


def test_what_is_waited_for_comes_next_and_nothing_else_is_waited_for(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    free, ended, read = threading.Event(), threading.Event(), []

    def one(video: int) -> None:
        read.append(video)
        if video < 4:  # four readers begin with these
            assert free.wait(60)
        elif video != 29:
            assert ended.wait(60)

    coming = Coming(one, np.arange(0, 300, 10))
    coming.start()
    threading.Timer(2.0, free.set).start()
    coming.wait(torch.tensor([299, 295]))
    assert sorted(read[:4]) == [0, 1, 2, 3]
    assert 29 in read[4:8], "by one of the four, as soon as it is free"
    ended.set()
    coming.wait()
    assert sorted(read) == list(range(30)), "each once"


def test_a_training_that_begins_early_leaves_the_bytes_of_any_other(store, undisturbed, tmp_path, cache):
    train(store, recipe(), tmp_path / "run", device="cpu")
    assert contents(tmp_path / "run") == contents(undisturbed)
    assert len(whole(cache)) == 2


def broken(path: Path, stream: str, video: str) -> Path:
    """Return a store in which a video has a feature that is no number."""
    plant_store(path, train=4, validation=2)
    source = FeatureStore.open(path)
    image, audio = source.image(video), source.audio(video)
    arrays = {"embedding": image.embedding_ND.copy(), "frame": image.frame_N, "time": image.time_N}
    if stream == "audio":
        arrays = {"embedding": audio.embedding_WSD.copy(), "end": audio.end_W}
    arrays["embedding"][1] = np.nan
    with source.writer(stream, video, source.fingerprint(stream)) as writer:
        writer.append(**arrays)
        writer.publish({"split": source.split(video), "counts": {}, "notes": []})
    return path


@pytest.mark.parametrize("at_least", [1, 2**40])
@pytest.mark.parametrize(("stream", "video"), [("image", "video1"), ("audio", "video0"), ("image", "video5")])
def test_features_that_are_not_finite_end_a_training_that_has_begun(
    tmp_path, cache, monkeypatch, at_least, stream, video
):
    """Whether the first batch, what silence is, or the validation meets with them."""
    monkeypatch.setattr(kept, "LEAST", at_least)
    store, small = broken(tmp_path / "s.zarr", stream, video), recipe()

    def stack():
        resident = Resident(FeatureStore.open(store), small, wait=False)
        runs = [tmp_path / "run", tmp_path / "other"]
        for result in train_stacked(store, [small, recipe(seed=1)], runs, device="cpu", resident=resident):
            if isinstance(result, StoreError):
                raise result

    for training in (lambda: train(store, small, tmp_path / "run", device="cpu"), stack):
        with pytest.raises(StoreError, match=rf"{stream} features of .* of video '{video}' are not finite"):
            training()
        folders = [path.name for path in tmp_path.iterdir() if path.name not in ("cache", "s.zarr")]
        assert [name for name in folders if any((tmp_path / name).iterdir())] == [], "another store can be trained on"
        settle()
        assert not cache.exists() or len(whole(cache)) <= 1


@pytest.mark.parametrize("most", [None, 10**6])
def test_a_disk_that_fills_up_meanwhile_costs_the_cache_and_nothing_else(store, cache, monkeypatch, most):
    in_memory = batches(Resident(FeatureStore.open(store), RECIPE))
    settle()
    for folder in whole(cache):
        shutil.rmtree(folder)
    original, written = os.pwrite, []

    def full(file, content, offset):
        written.append(offset)
        if len(written) % 3 == 2:
            raise OSError(errno.ENOSPC, "no space left on device")
        return original(file, content, offset)

    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(2):
        resident = Resident(FeatureStore.open(store), RECIPE, wait=False, most=most)
        found = batches(resident) + batches(resident)  # with a limit, what was read before is given back
        for one, two in zip(in_memory * 2, found, strict=True):
            assert torch.equal(one, two)
        settle()
        assert whole(cache) == []


def test_a_disk_without_room_is_not_begun_with(store, cache, monkeypatch):
    asked = []

    def lacking(file, nbytes):
        asked.append(nbytes)
        raise OSError(errno.ENOSPC, "no space left on device")

    in_memory = batches(Resident(FeatureStore.open(store), RECIPE))
    settle()
    for folder in whole(cache):
        shutil.rmtree(folder)
    monkeypatch.setattr(kept, "reserve", lacking)
    for one, two in zip(in_memory, batches(Resident(FeatureStore.open(store), RECIPE, wait=False)), strict=True):
        assert torch.equal(one, two)
    settle()
    assert len(asked) == 2
    assert whole(cache) == []


def test_a_cache_that_may_only_be_read_is_used(store, cache, monkeypatch):
    expected = batches(Resident(FeatureStore.open(store), RECIPE))
    settle()

    def read_only(*_):
        raise OSError(errno.EROFS, "read-only file system")

    monkeypatch.setattr(os, "utime", read_only)
    monkeypatch.setattr(FeatureStore, "embedding_pieces", None)
    for one, two in zip(expected, batches(Resident(FeatureStore.open(store), RECIPE, most=1)), strict=True):
        assert torch.equal(one, two)


ENDING = """
import sys, time
from vaprompt import FeatureStore
from vaprompt.training import kept
from vaprompt.training.data import Resident
from tests.training.test_kept import RECIPE
kept.LEAST = 1
original = FeatureStore.embedding_pieces
def slow(self, stream, video):
    time.sleep(2)
    yield from original(self, stream, video)
FeatureStore.embedding_pieces = slow
import vaprompt.training.coming as coming
coming.LEAST_READERS = 1
import torch
torch.get_num_threads = lambda: 0
resident = Resident(FeatureStore.open(sys.argv[1]), RECIPE, wait=False)
print(time.time(), flush=True)
sys.exit("over")
"""


def test_a_program_that_ends_does_not_wait_for_what_nobody_needs(store, cache):
    ended = subprocess.run(
        [sys.executable, "-c", ENDING, store],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "over")
    assert time.time() - float(ended.stdout) < 12, "and not the seconds that all videos take"
    assert whole(cache) == []


def test_reading_that_was_stopped_is_no_features():
    free = threading.Event()
    coming = Coming(lambda _: free.wait(60), np.arange(50))
    coming.start()
    stopping = threading.Thread(target=coming.stop)
    stopping.start()
    time.sleep(0.1)
    free.set()
    stopping.join(60)
    with pytest.raises(RuntimeError, match="stopped"):
        coming.wait(torch.tensor([49]))
