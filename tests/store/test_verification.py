"""`store verify` finds whatever happens to a store, and `--repair` leaves what the next extraction can mend."""

import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.store.stores import IMAGE, add_named, filled
from vaprompt.cli.main import run
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import read_attributes, write_attributes
from vaprompt.store.repair import repair
from vaprompt.store.sharing.packed import pack
from vaprompt.store.storage import Folder
from vaprompt.store.verification import verify

FAULTS = 210


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return a store with all that a store can hold: several chunks, prompts, a failure, an index."""
    videos = {"a": "train", "b": "validation", "c": "test"}
    store = filled(tmp_path_factory.mktemp("verified") / "s.zarr", videos, width=512)
    with store.writer("image", "a", IMAGE) as writer:
        for first in range(0, 1500, 500):
            frame_N = np.arange(first + 1, first + 501, dtype=np.int32)
            writer.append(embedding=np.ones((500, 512), np.float16), frame=frame_N, time=frame_N / 25)
        counts = {"frames": 1500, "encoded": 1500, "seconds": 59.96}
        writer.publish({"split": "train", "notes": [], "counts": counts})
    store.write_text({"a face": np.ones(4, np.float32), "a smile": np.zeros(4, np.float32)}, {"model": "m"})
    store.record_failure("d", "d.mp4: is cut off; copy it again")
    with store.writing():
        pass
    store.write_index()
    return store.path


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.zarr", copy_function=shutil.copy2))


def test_a_whole_store_has_no_fault(whole):
    for deep in (False, True):
        found = verify(whole, deep=deep)
        assert found.ok
        assert found.faults == []
        assert found.videos == 3
        assert found.bytes > 1500 * 512 * 2


def test_every_flipped_bit_truncation_and_deletion_is_found(whole):
    chance = random.Random(0)
    files = sorted(path for path in whole.rglob("*") if path.is_file())
    assert any(path.name == INDEX_FILE for path in files)
    for number in range(FAULTS):
        path, kind = chance.choice(files), ("flip", "cut", "delete")[number % 3]
        if kind == "delete" and path.name == INDEX_FILE:
            continue  # a cache that may be missing
        before, state = path.read_bytes(), path.stat()
        if kind == "flip":
            changed = bytearray(before)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
        elif kind == "cut":
            path.write_bytes(before[: chance.randrange(len(before))])
        else:
            path.unlink()
        found = verify(whole, deep=True)
        path.write_bytes(before)
        told = " ".join(f"{fault.stream}/{fault.video}/{fault.key}" for fault in found.faults)
        assert not found.ok, f"{kind} of {path.relative_to(whole)} was not found"
        parts = path.relative_to(whole).parts
        assert parts[0] in told if len(parts) > 1 else path.name in told
        assert path.stat().st_size == state.st_size
    assert verify(whole, deep=True).ok


@pytest.mark.parametrize("kind", ["cut", "delete"])
def test_lengths_and_names_are_found_without_reading(whole, kind):
    for path in sorted(whole.rglob("*")):
        if path.is_file() and path.name != INDEX_FILE:
            before = path.read_bytes()
            if kind == "cut":
                path.write_bytes(before[:-1])
            else:
                path.unlink()
            found = verify(whole)
            path.write_bytes(before)
            assert not found.ok, path


def test_a_file_too_many_a_link_and_a_stray_folder_are_found(copy):
    (copy / "image/a/notes.txt").write_text("x")
    (copy / "audio/b/link").symlink_to("/etc/passwd")
    (copy / "labels/e").mkdir()
    (copy / "stray").mkdir()
    keys = {(fault.stream, fault.video, fault.key) for fault in verify(copy).faults}
    assert ("image", "a", "notes.txt") in keys
    assert any(key[:2] == ("audio", "b") for key in keys)
    assert ("labels", "e", "zarr.json") in keys
    assert ("stray", "", "zarr.json") in keys


def published(store: FeatureStore, stream: str, video: str, marker: dict, **arrays: np.ndarray) -> None:
    with store.writer(stream, video, store.fingerprint(stream)) as writer:
        writer.append(**arrays)
        writer.publish({"split": "train", "notes": [], **marker})


def test_values_that_are_whole_but_wrong_are_found(copy):
    """Faults of whoever wrote, not of the disk: the digests are right."""
    store = FeatureStore.open(copy)
    image = {"frame": np.array([1, 2, 2], np.int32), "time": np.array([0.0, 1.0, np.inf])}
    nan = np.full((3, 8), np.nan, np.float16)
    published(store, "image", "a", {"counts": {"frames": 2, "encoded": 3, "seconds": 1.0}}, embedding=nan, **image)
    value = {"value": np.array([[0, 0], [1.5, 0]], np.float32), "valid": np.array([True, True])}
    counts = {"frames": 2, "valid": 1, "seconds": 1.0}
    published(store, "labels", "a", {"counts": counts}, time=np.array([1.0, 0.0]), **value)
    told = [f"{fault.stream} {fault.key}: {fault.fault}" for fault in verify(copy, deep=True).faults]
    for expected in (
        "image embedding/c/0/0: holds values that are not finite",
        "image time: holds values that are not finite",
        "image frame: is not ascending",
        "labels value: leaves [-1, 1] in frames that are valid",
        "labels valid: counts 2 frames, and its marker 1",
        "labels time: is not ascending",
    ):
        assert expected in told


def test_arrays_that_do_not_fit_marker_or_stream_are_found(copy):
    store = FeatureStore.open(copy)
    counts = {"frames": 4, "encoded": 4, "seconds": 1.0}
    arrays = {"frame": np.arange(1, 4, dtype=np.int32), "time": np.arange(3.0)}
    published(store, "image", "a", {"counts": counts}, embedding=np.ones((3, 8), np.float32), **arrays)
    published(store, "audio", "a", {"counts": {"windows": 2, "seconds": 1.0}}, end=np.arange(2.0))
    published(store, "labels", "a", {"split": "nowhere"}, time=np.arange(2.0))
    told = [f"{fault.stream} {fault.key}: {fault.fault}" for fault in verify(copy).faults]
    assert "image embedding: is float32 in 2 dimensions and not float16 in 2" in told
    assert "image frame: has 3 rows, and its marker says 4" in told
    assert "audio embedding: is missing" in told
    assert any("split nowhere" in line for line in told)


def test_a_video_of_another_store_is_found(copy, tmp_path):
    """What was made otherwise and copied into the stream by hand: its digests are right, and its marker is whole."""
    shutil.copytree(copy, tmp_path / "older.zarr")
    other = FeatureStore.create(tmp_path / "other.zarr")
    attributes = read_attributes(Folder(copy), "image/b")
    with other.writer("image", "b", {**IMAGE, "model": "another"}) as writer:
        image = FeatureStore.open(copy).image("b")
        writer.append(embedding=image.embedding_ND, frame=image.frame_N, time=image.time_N)
        writer.publish({key: attributes[key] for key in ("split", "counts", "notes")})
    shutil.rmtree(copy / "image/b")
    shutil.copytree(other.path / "image/b", copy / "image/b")
    found = verify(copy)
    assert [(fault.stream, fault.video, fault.key) for fault in found.faults] == [("image", "b", "zarr.json")]
    assert "the digest of another fingerprint" in found.faults[0].fault
    assert len(repair(copy, found).removed) == 1
    assert FeatureStore.open(copy).done("image") == {"a", "c"}
    # Markers of versions that did not write such a digest are whole.
    older = tmp_path / "older.zarr"
    for stream in ("image", "audio", "labels"):
        attributes = read_attributes(Folder(older), f"{stream}/b")
        del attributes["fingerprint_digest"]
        write_attributes(older / stream / "b", attributes)
    assert verify(older, deep=True).ok


def test_embeddings_of_another_shape_are_found(copy):
    store = FeatureStore.open(copy)
    image, audio = store.marker("image", "b"), store.marker("audio", "b")
    arrays = {"frame": np.arange(1, 31, dtype=np.int32), "time": np.arange(30) / 30}
    published(store, "image", "b", {"counts": image["counts"], "split": "validation"},
              embedding=np.ones((30, 16), np.float16), **arrays)  # fmt: skip
    published(store, "audio", "b", {"counts": audio["counts"], "split": "validation"},
              embedding=np.ones((2, 5, 4), np.float16), end=np.arange(2.0))  # fmt: skip
    found = verify(copy)
    assert [f"{fault.stream} {fault.video} {fault.key}: {fault.fault}" for fault in found.faults] == [
        "audio b embedding: has embeddings of 5 x 4 numbers, and most other videos of 3 x 4",
        "image b embedding: has embeddings of 16 numbers, and most other videos of 512",
    ]
    assert len(repair(copy, found).removed) == 2
    assert FeatureStore.open(copy).done("image") == FeatureStore.open(copy).done("audio") == {"a", "c"}


def test_steps_that_are_not_the_fingerprints_are_found(tmp_path):
    store = FeatureStore.create(tmp_path / "s.zarr")
    with store.writer("audio", "a", {"steps": 20}) as writer:
        writer.append(embedding=np.ones((2, 3, 4), np.float16), end=np.arange(2.0))
        writer.publish({"split": "train", "notes": [], "counts": {"windows": 2, "seconds": 1.0}})
    (fault,) = verify(store.path).faults
    assert fault.fault == "has 3 steps a window, and the stream's fingerprint says 20"


def test_streams_of_a_video_must_fit_each_other(copy):
    store = FeatureStore.open(copy)
    shutil.rmtree(copy / "audio/b")
    counts = {"frames": 99, "valid": 0, "seconds": 1.0}
    rows = {"value": np.zeros((99, 2), np.float32), "valid": np.zeros(99, bool), "time": np.arange(99.0)}
    published(store, "labels", "c", {"split": "test", "counts": counts}, **rows)
    attributes = read_attributes(Folder(copy), "image/a")
    write_attributes(copy / "image/a", {**attributes, "split": "test"})
    told = [f"{fault.stream} {fault.video} {fault.fault}" for fault in verify(copy).faults]
    assert any(line.startswith("audio b is missing, though") for line in told)
    assert "labels c has 99 rows, but the video has 30 frames" in told
    assert "labels a is of different splits (audio: train, image: test, labels: train)" in told


@pytest.mark.parametrize("wrong", ["image", "labels"])
def test_repair_of_different_splits_costs_no_encoding(copy, wrong):
    """Whichever of them is wrong: the labels' next extraction says it to the others."""
    FeatureStore.open(copy).mark(wrong, "b", split="test")
    assert [fault.stream for fault in repair(copy, verify(copy)).removed] == ["labels"]
    store = FeatureStore.open(copy)
    assert store.done("image") == store.done("audio") == {"a", "b", "c"}
    assert store.done("labels") == {"a", "c"}


def test_a_stream_of_an_older_state_of_the_file_is_found(copy):
    """As of another name, when a video has been replaced and one name's features were made again."""
    store = FeatureStore.open(copy)
    add_named(copy, "b32", {"calm": np.ones(6, np.float32)}, "b")
    named = FeatureStore.open(copy, "b32")
    named.mark("image", "b", split="validation", source={"media": {"name": "b.mp4", "sha256": "0" * 64}})
    others = {fault.video for fault in verify(copy).faults}
    assert "b" not in others  # nothing is known of what the others are made of
    for stream in ("image", "audio", "labels"):
        store.mark(stream, "b", source={"media": {"name": "b.mp4", "sha256": "0" * 64}})
    assert {fault.video for fault in verify(copy).faults} == others
    for stream in ("image", "audio", "labels"):
        store.mark(stream, "b", source={"media": {"name": "b.mp4", "sha256": "1" * 64}})
    found = verify(copy)
    told = [f"{fault.stream}: {fault.fault}" for fault in found.faults if fault.video == "b"]
    assert told == ["image.b32: is made of another state of the video's file than labels"]
    repair(copy, found)
    assert named.done("image") == set()
    assert store.videos() == ["a", "b", "c"]


def test_repair_leaves_a_folder_that_is_none_of_ours(copy, capsys):
    (copy / "image/my video").mkdir()
    (copy / "image/a/embedding/c/1/0").unlink()
    assert run(["store", "verify", str(copy), "--repair"]) == 3
    told = capsys.readouterr().out
    assert "'my video' cannot be the name of a video" in told
    assert "1 removed" in told
    assert "1 cannot be mended so" in told
    assert (copy / "image/my video").is_dir()
    assert not (copy / "image/a").exists()


def test_repair_removes_what_is_broken_and_nothing_else(copy):
    (copy / "image/a/embedding/c/1/0").unlink()
    (copy / "text/embedding/c/0/0").write_bytes(b"")
    (copy / "failed/d/zarr.json").write_text("{}")
    (copy / INDEX_FILE).write_text("{}")
    found = verify(copy, deep=True)
    assert {fault.stream for fault in found.faults} == {"image", "text", "failed", ""}
    assert repair(copy, found).left == []
    store = FeatureStore.open(copy)
    assert store.done("image") == {"b", "c"}
    assert store.done("audio") == {"a", "b", "c"}
    assert store.text() == {}
    assert not (copy / "failed").exists()


def test_repair_leaves_what_an_extraction_made_anew_since(copy, tmp_path):
    """Faults are found while an extraction is at it; by the time that repair has the video, its groups are whole."""
    healthy = Path(shutil.copytree(copy, tmp_path / "healthy.zarr"))
    shutil.rmtree(copy / "image/b")
    shutil.rmtree(copy / "audio/c")
    (copy / "labels/c/value/c/0/0").write_bytes(b"")
    chunk = copy / "image/a/embedding/c/1/0"
    chunk.write_bytes(bytes(chunk.stat().st_size))
    attributes = read_attributes(Folder(copy), "audio/a")
    write_attributes(copy / "audio/a", {**attributes, "split": "test"})
    found = verify(copy, deep=True)
    broken = {("image", "a"), ("labels", "a"), ("image", "b"), ("audio", "c"), ("labels", "c")}
    assert {(fault.stream, fault.video) for fault in found.faults} == broken
    for group in ("image/a", "audio/a", "image/b", "audio/c"):
        shutil.rmtree(copy / group, ignore_errors=True)
        shutil.copytree(healthy / group, copy / group)
    repaired = repair(copy, found)
    assert [(fault.stream, fault.video) for fault in repaired.removed] == [("labels", "c")]
    assert repaired.left == []
    store = FeatureStore.open(copy)
    assert store.done("image") == store.done("audio") == {"a", "b", "c"}
    assert store.done("labels") == {"a", "b"}


def test_what_cannot_be_made_again_is_left(copy):
    (copy / "audio/zarr.json").write_text("{}")
    found = verify(copy)
    assert [(fault.stream, fault.video) for fault in repair(copy, found).left] == [("audio", "")]
    (copy / "zarr.json").write_text("{}")
    found = verify(copy)
    assert repair(copy, found).left == found.faults
    assert (copy / "image/a").exists()


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("nothing", "empty"):
        with pytest.raises(StoreError, match="feature store"):
            verify(tmp_path / place)


@pytest.mark.parametrize("place", ["folder", "archive"])
def test_an_index_that_tells_of_other_markers_is_found(tmp_path, place):
    """As where markers are put back from a copy, in place: no folder's time changes, and readers believe the index."""
    store = filled(tmp_path / "s.zarr", {"a": "train", "b": "train"})
    store.write_index()
    index = (store.path / INDEX_FILE).read_bytes()
    for stream in ("image", "audio", "labels"):
        attributes = read_attributes(Folder(store.path), f"{stream}/a")
        write_attributes(store.path / stream / "a", {**attributes, "split": "test"}, aside=tmp_path)
    if place == "folder":
        found = verify(store.path)
        assert repair(store.path, found).removed == found.faults
        assert FeatureStore.open(store.path).split("a") == "test"
    else:
        pack(store.path, tmp_path / "whole.zip")
        assert verify(tmp_path / "whole.zip").ok
        with zipfile.ZipFile(tmp_path / "whole.zip") as good, zipfile.ZipFile(tmp_path / "s.zip", "w") as bad:
            for name in good.namelist():
                bad.writestr(name, index if name == INDEX_FILE else good.read(name))
        found = verify(tmp_path / "s.zip")
    (fault,) = found.faults
    assert (fault.key, fault.fault) == (INDEX_FILE, "tells of another audio/a than is there")


def test_it_says_what_made_the_videos(tmp_path, capsys):
    store = filled(tmp_path / "s.zarr", {"a": "train", "b": "train", "c": "train"})
    here, there = ({"vaprompt": "1.2", "host": host, "device": "cpu (x86_64)"} for host in ("here", "there"))
    for video, made_by in (("a", here), ("b", there)):
        for stream in ("image", "audio", "labels") if video == "a" else ("image",):
            store.mark(stream, video, made_by=made_by)
    assert run(["store", "verify", str(store.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["makers"] == [{"made_by": here, "groups": 3}, {"made_by": there, "groups": 1}]
    assert run(["store", "verify", str(store.path)]) == 0
    shown = capsys.readouterr().out
    assert "made by device cpu (x86_64), host here, vaprompt 1.2 (videos' streams: 3)\n" in shown
    assert "made by device cpu (x86_64), host there, vaprompt 1.2 (videos' streams: 1)\n" in shown


def test_faces_are_told_of_pictures_alone(tmp_path, capsys):
    described = {"dataset": {"name": "d", "layout": "csv", "faces": "frames"}, "recipe": {}}
    for kinds, told in ((("audio", "labels"), "csv\n"), (("image", "audio", "labels"), "csv, faces frames\n")):
        store = FeatureStore.create(tmp_path / kinds[0], **described, fingerprints={kind: {} for kind in kinds})
        assert run(["store", "info", str(store.path)]) == 0
        assert f"data set: name d, layout {told}" in capsys.readouterr().out


def test_the_command_lists_faults_and_its_exit_code_says_so(copy, capsys):
    assert run(["store", "verify", str(copy), "--deep"]) == 0
    assert "no faults" in capsys.readouterr().out
    chunk = copy / "image/a/embedding/c/1/0"
    content = bytearray(chunk.read_bytes())
    content[1000] ^= 4
    chunk.write_bytes(content)
    assert run(["store", "verify", str(copy), "--deep", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"] is False
    assert shown["videos"] == 3
    ((fault),) = shown["faults"]
    assert (fault["stream"], fault["video"], fault["key"]) == ("image", "a", "embedding/c/1/0")
    assert "digest" in fault["fault"]
    assert run(["store", "verify", str(copy), "--deep", "--repair"]) == 3
    assert "1 removed" in capsys.readouterr().out
    assert not (copy / "image/a").exists()
