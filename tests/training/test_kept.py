"""Features joined in the cache: the same numbers from memory, from a fresh file and from one that was there."""

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.listening import Listening
from tests.planted import plant_store
from vaprompt import FeatureStore
from vaprompt.errors import OptionError, StoreError, TargetError
from vaprompt.progress import Silent
from vaprompt.recipes import validated
from vaprompt.tensors import write_tensors
from vaprompt.training import kept, room
from vaprompt.training.data import Resident
from vaprompt.training.keeping import settle
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.room import LIMIT_VARIABLE

RECIPE = validated(TrainRecipe, {"window": {"seconds": 4.0, "stride": 1.0, "frames": 8}}, where="test")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("planted") / "store.zarr", train=4, validation=2, test=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST", 1)
    return tmp_path / "cache" / "features"


def whole(folder: Path) -> list[Path]:
    settle()
    return sorted(path for path in folder.iterdir() if path.is_dir())


def forget(folder: Path) -> None:
    settle()
    shutil.rmtree(folder)


def tensors(store: Path, **options):
    resident = Resident(FeatureStore.open(store), RECIPE, **options)
    splits = [resident.split(split, RECIPE) for split in ("train", "validation")]
    fields = [getattr(split.windows, name) for split in splits for name in vars(split.windows)]
    rows = torch.arange(len(splits[0].windows))
    return [*fields, resident.features.image_NI, resident.features.audio_ASC, *splits[0].batch(rows)]


def expected(store: Path):
    """Every video's own arrays, one behind the other, as the store gives them."""
    source = FeatureStore.open(store)
    names = [name for name in source.videos() if source.labels(name).valid_F.any()]
    return (
        np.concatenate([source.image(name).embedding_ND for name in names]),
        np.concatenate([source.audio(name).embedding_WSD for name in names]),
    )


def test_it_is_the_same_from_memory_from_a_fresh_file_and_from_one_that_was_there(store, cache, monkeypatch):
    monkeypatch.setattr(kept, "LEAST", 2**40)
    in_memory = tensors(store)
    assert not cache.exists()
    monkeypatch.setattr(kept, "LEAST", 1)
    fresh = tensors(store)
    assert len(whole(cache)) == 2  # labels of few videos are read anew
    monkeypatch.setattr(FeatureStore, "embedding_pieces", None)
    again = tensors(store)
    sparing = tensors(store, most=1)
    for one, two, three, four in zip(in_memory, fresh, again, sparing, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
        assert torch.equal(one, four)
    image, audio = expected(store)
    np.testing.assert_array_equal(again[-4].numpy(), image)
    np.testing.assert_array_equal(again[-3].numpy(), audio)


def test_another_content_is_kept_apart(store, cache, tmp_path):
    tensors(store)
    tensors(plant_store(tmp_path / "other.zarr", train=4, validation=2, seed=1))
    assert len(whole(cache)) == 4


@pytest.mark.parametrize("damage", ["cut", "no rows", "rubbish", "empty"])
def test_what_is_damaged_is_made_anew(store, cache, damage):
    before = [tensor.clone() for tensor in tensors(store)]
    for folder in whole(cache):
        if damage == "cut":
            os.truncate(folder / kept.EMBEDDING, 100)
        elif damage == "no rows":
            (folder / kept.ROWS).unlink()
        elif damage == "rubbish":
            (folder / kept.ROWS).write_bytes(b"rubbish")
        else:
            shutil.rmtree(folder)
            folder.mkdir()
    assert all(torch.equal(one, two) for one, two in zip(before, tensors(store), strict=True))
    assert len(whole(cache)) == 2


def test_where_nothing_can_be_kept_it_is_read_into_memory(store, cache, monkeypatch):
    expected_tensors = tensors(store)
    forget(cache)
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    limited = tensors(store)
    assert whole(cache) == []
    monkeypatch.setenv("VAPROMPT_CACHE", "/proc/nowhere")
    unwritable = tensors(store)
    for one, two, three in zip(expected_tensors, limited, unwritable, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.parametrize(
    ("hindered", "said"),
    [
        (
            "limit",
            r"cache/features: 0 MB of image features pass --memory, .*: no more than 0 MB are kept there; raise ",
        ),
        ("disk", r"cache/features: 0 MB .*: its disk has .* MB free, of which 4,611,686,018,427 MB are left; let VAPR"),
        ("rights", r"/proc/nowhere/features: 0 MB .*: it cannot be written; let VAPROMPT_CACHE name a folder on a"),
    ],
)
def test_more_than_may_lie_in_memory_is_refused_where_it_cannot_be_mapped(store, cache, monkeypatch, hindered, said):
    if hindered == "limit":
        monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    elif hindered == "disk":
        monkeypatch.setattr(room, "SPARE", 2**62)
    else:
        monkeypatch.setenv("VAPROMPT_CACHE", "/proc/nowhere")
    with pytest.raises(TargetError, match=said):
        tensors(store, most=1)
    image, audio = expected(store)
    tensors(store, most=image.nbytes + audio.nbytes)
    with pytest.raises(TargetError, match="of audio features pass"):
        tensors(store, most=image.nbytes + audio.nbytes - 1)


class Counting(Silent):
    """Counts what is told of the one task there is."""

    done = 0

    @contextmanager
    def task(self, name, total=None, unit=""):
        self.total = total
        yield self

    def advance(self, amount=1, note=""):
        self.done += amount


@pytest.mark.parametrize("at_least", [1, 2**40])
def test_every_video_is_told_whether_it_is_read_or_there(store, cache, monkeypatch, at_least):
    monkeypatch.setattr(kept, "LEAST", at_least)
    for _ in range(2):
        progress = Counting()
        tensors(store, progress=progress)
        assert progress.done == progress.total == 3 * 6
        settle()


@contextmanager
def files_of_at_most(nbytes: int):
    """Let the system refuse to write longer files, as a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("late", [False, True])
def test_a_disk_that_fills_up_while_features_are_joined_lets_them_be_read_into_memory(store, cache, monkeypatch, late):
    def save(*args):
        with files_of_at_most(100):
            write_tensors(*args)

    in_memory = tensors(store)
    largest = max(file.stat().st_size for folder in whole(cache) for file in folder.iterdir())
    forget(cache)
    if late:
        monkeypatch.setattr(kept, "write_tensors", save)
    progress = Counting()
    with files_of_at_most(largest if late else largest // 2):
        full = tensors(store, progress=progress)
        with pytest.raises(TargetError, match=r"features pass --memory, .*: writing it failed .*; let VAPROMPT_CACHE"):
            tensors(store, most=1)
    assert all(torch.equal(one, two) for one, two in zip(in_memory, full, strict=True))
    assert not any(path.name.startswith(".") for path in whole(cache))
    assert progress.done == progress.total


def test_little_is_kept_as_well_where_it_may_not_lie_in_memory(store, cache, monkeypatch):
    monkeypatch.setattr(kept, "LEAST", 2**40)
    image, _ = expected(store)
    tensors(store, most=image.nbytes)
    assert len(whole(cache)) == 1  # the sound, for which nothing was left


def test_of_many_videos_all_is_kept_and_labels_too(store, cache, monkeypatch):
    before = tensors(store)
    forget(cache)
    monkeypatch.setattr(kept, "LEAST", 2**40)
    monkeypatch.setattr(kept, "MANY", 6)
    fresh = tensors(store)
    kinds = whole(cache)
    assert [(folder / kept.EMBEDDING).stat().st_size for folder in kinds].count(0) == 1
    monkeypatch.setattr(FeatureStore, "embedding_pieces", None)
    monkeypatch.setattr(FeatureStore, "labels", None)
    again = tensors(store)
    assert len(kinds) == len(whole(cache)) == 3
    for one, two, three in zip(before, fresh, again, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_changed_labels_are_not_those_that_were_kept(store, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MANY", 6)
    tensors(store)
    before = set(whole(cache))
    changed = plant_store(tmp_path / "other.zarr", train=4, validation=2, test=1, seed=1)
    with_labels = tensors(changed)
    forget(cache)
    assert len(before) == 3
    assert all(torch.equal(one, two) for one, two in zip(with_labels, tensors(changed), strict=True))


def test_the_caches_limit_is_written_as_sizes_are(store, cache, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    tensors(store)
    assert whole(cache) == []
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(OptionError, match="VAPROMPT_CACHE_LIMIT = much: is not a size; write for example 2GB"):
        tensors(store)
    monkeypatch.setenv(LIMIT_VARIABLE, "200GB")
    tensors(store)
    assert len(whole(cache)) == 2
    forget(cache)
    monkeypatch.setenv(LIMIT_VARIABLE, "")
    tensors(store)
    assert len(whole(cache)) == 2, "as if it were not set"


def test_a_training_that_waits_for_another_one_to_fill_the_cache_says_so_once(store, cache):
    there = tensors(store)
    others = [cache / f"{folder.name}.lock" for folder in whole(cache)]
    forget(cache)
    cache.mkdir()

    class Waiting(Listening):
        def say(self, text):
            super().say(text)
            for seconds, lock in zip((0, 0.5), held, strict=True):
                threading.Timer(seconds, lock.close).start()

    held, waiting = [lock.open("w") for lock in others], Waiting()
    for lock in held:
        fcntl.flock(lock, fcntl.LOCK_EX)
    again = tensors(store, progress=waiting)
    assert waiting.said == [f"waiting for another training, which is bringing these features into {cache}"]
    assert all(torch.equal(one, two) for one, two in zip(there, again, strict=True))


def test_on_a_file_system_without_locks_nothing_is_kept(store, cache, monkeypatch):
    def no_locks(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", no_locks)
        there = tensors(store)
        assert whole(cache) == []
    assert all(torch.equal(one, two) for one, two in zip(there, tensors(store), strict=True))


def test_a_cache_that_is_cleared_or_damaged_beside_a_training_is_no_hindrance(store, cache, monkeypatch):
    def cleared(folder, say):
        lock = locked(folder, say)
        shutil.rmtree(cache)
        return lock

    locked = kept.locked
    with monkeypatch.context() as patched:
        patched.setattr(kept, "locked", cleared)
        there = tensors(store)
    assert whole(cache)
    forget(cache)
    (cache / "other").mkdir(parents=True)
    (cache / "other" / "rows.safetensors").symlink_to("/nowhere")
    again = tensors(store, most=1)
    assert all(torch.equal(one, two) for one, two in zip(there, again, strict=True))


def test_what_is_larger_than_the_memory_is_mapped(store, cache):
    before = tensors(store, most=1)[-4].clone()
    for folder in whole(cache):
        rows = load_file(folder / kept.ROWS)
        if len(rows["shape"]) == 2:
            rows["shape"][0] = 2**33
            save_file(rows, folder / kept.ROWS)
            os.truncate(folder / kept.EMBEDDING, 2 * int(rows["shape"].prod()))
    image_NI = Resident(FeatureStore.open(store), RECIPE, most=1).features.image_NI
    assert image_NI.nbytes > 2**38
    assert torch.equal(image_NI[: len(before)], before)
    assert not image_NI[-1].any()


def test_what_was_used_longest_ago_makes_room(store, cache, tmp_path, monkeypatch):
    others = [plant_store(tmp_path / f"{seed}.zarr", train=4, validation=2, seed=seed) for seed in (1, 2)]
    tensors(store)
    size = sum(file.stat().st_size for folder in whole(cache) for file in folder.iterdir())
    first = whole(cache)
    tensors(others[0])
    for folder in first:
        os.utime(folder, (1, 1))
    monkeypatch.setenv(LIMIT_VARIABLE, str(size * 21 // 10))
    tensors(others[1])
    assert len(whole(cache)) == 4
    assert not set(first) & set(whole(cache))


FILLING = """
import os, signal, sys
from vaprompt.training import kept
kept.LEAST = 1
writes = 0
original = os.pwrite
def dying(*arguments):
    global writes
    writes += 1
    if writes == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
os.pwrite = dying
from tests.training.test_kept import tensors
tensors(sys.argv[1])
"""


def test_one_that_is_killed_while_it_writes_leaves_nothing_behind(store, cache):
    killed = subprocess.run([sys.executable, "-c", FILLING, store], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[0] for path in whole(cache)] == ["."]
    tensors(store)
    assert all(not path.name.startswith(".") for path in whole(cache))
    assert len(whole(cache)) == 2


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("image", r"image features of frame 4\d of video 'video1' are not finite"),
        ("audio", r"audio features of the window of sound that ends at 3 s of video 'video1' are not finite"),
    ],
)
def test_features_that_are_not_finite_are_named_and_not_kept(tmp_path, cache, stream, said):
    path = plant_store(tmp_path / "s.zarr", train=2, validation=1)
    source = FeatureStore.open(path)
    image, audio = source.image("video1"), source.audio("video1")
    arrays = {"embedding": image.embedding_ND.copy(), "frame": image.frame_N, "time": image.time_N}
    if stream == "audio":
        arrays = {"embedding": audio.embedding_WSD.copy(), "end": audio.end_W}
    row = 38 if stream == "image" else int(np.flatnonzero(audio.end_W == 3)[0])
    arrays["embedding"][(row, *([0] * (arrays["embedding"].ndim - 1)))] = np.inf
    with source.writer(stream, "video1", source.fingerprint(stream)) as writer:
        writer.append(**arrays)
        writer.publish({"split": "train", "counts": {}, "notes": []})
    with pytest.raises(StoreError, match=said):
        tensors(path)
    assert not any(stream in path.name for path in whole(cache))


def test_one_modality_reads_the_other_not_at_all(store, monkeypatch):
    monkeypatch.setattr(FeatureStore, "audio_ends", None)
    alone = RECIPE.model_copy(update={"model": RECIPE.model.model_copy(update={"modalities": ("image",)})})
    resident = Resident(FeatureStore.open(store), alone)
    image, audio = resident.split("train", alone).batch(torch.arange(3))
    assert image.shape[:2] == (3, 8)
    assert audio is None
    assert set(resident.dims) == {"image"}
