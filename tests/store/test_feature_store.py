"""A store gives back what was written, says what is in it, and refuses what does not belong together."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from tests.store.stores import DATASET, IMAGE, add, filled
from vaprompt.errors import FingerprintError, StoreError, TargetError
from vaprompt.store import FeatureStore, writing
from vaprompt.store.layout import read_attributes
from vaprompt.store.pull import pull
from vaprompt.store.sharing.packed import pack, unpack
from vaprompt.store.storage import Folder
from vaprompt.store.verification import verify


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    chunk_rows=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_arrays_come_back_however_they_were_cut(pieces, chunk_rows, seed):
    chance = np.random.default_rng(seed)
    batches = [chance.normal(size=(rows, 3)).astype(np.float16) for rows in pieces]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "CHUNK_BYTES", chunk_rows * 6)
        store = FeatureStore.create(Path(folder) / "s.zarr")
        with store.writer("image", "v", {}) as writer:
            written = 0
            for batch in batches:
                frame = np.arange(written + 1, written + len(batch) + 1, dtype=np.int32)
                writer.append(embedding=batch, frame=frame, time=frame.astype(np.float64))
                written += len(batch)
            writer.publish({})
        read = FeatureStore.open(store.path).image("v")
        assert_as_zarr_writes_it(store.path / "image/v", Path(folder) / "theirs")
    np.testing.assert_array_equal(read.embedding_ND, np.concatenate(batches))
    assert read.frame_N.dtype == np.int32


def assert_as_zarr_writes_it(group, folder):
    """Chunks are written by us: each must be the file that zarr itself makes of the array."""
    files = {}
    for name in ("embedding", "frame", "time"):
        ours = zarr.open_array(str(group / name), mode="r")
        theirs = zarr.create_array(
            str(folder / name),
            shape=ours.shape,
            chunks=ours.chunks,
            dtype=ours.dtype,
            filters=None,
            compressors=Crc32cCodec(),
            config={"write_empty_chunks": True},
        )
        theirs[:] = ours[:]
        files |= {f"{name}/{key}": data for key, data in files_in(folder / name).items()}
    marker = zarr.open_group(str(group), mode="r").attrs["files"]
    assert {key: data for key, data in files_in(group).items() if key != "zarr.json"} == files
    assert marker == {
        key: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for key, data in files.items()
    }


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_chunks_are_bounded_and_short_streams_are_not_padded(tmp_path):
    store = FeatureStore.create(tmp_path / "s.zarr")
    row = np.zeros((1000, 512), np.float16)
    with store.writer("image", "long", {}) as writer:
        for _ in range(5):
            writer.append(embedding=row)
            held = sum(len(piece) for column in writer._columns.values() for piece in column._pending)
            assert held <= 1024
        writer.publish({})
    sizes = [file.stat().st_size for file in (store.path / "image/long/embedding/c").rglob("*") if file.is_file()]
    assert len(sizes) == 5
    assert max(sizes) <= writing.CHUNK_BYTES + 4
    with store.writer("image", "short", {}) as writer:
        writer.append(embedding=row[:10])
        writer.publish({})
    (chunk,) = (file for file in (store.path / "image/short/embedding/c").rglob("*") if file.is_file())
    assert chunk.stat().st_size == 10 * 512 * 2 + 4


def test_only_videos_whole_in_all_streams_are_listed(tmp_path):
    store = filled(tmp_path / "s.zarr", {"b": "train", "a": "train", "c": "validation"})
    with store.writer("image", "half", IMAGE) as writer:
        writer.append(embedding=np.zeros((1, 8), np.float16))
        writer.publish({"split": "train"})
    again = FeatureStore.open(store.path)
    assert again.videos() == ["a", "b", "c"]
    assert again.videos("validation") == ["c"]
    assert again.videos("test") == []
    assert again.done("image") == {"a", "b", "c", "half"}
    assert again.streams == ("image", "audio", "labels")
    assert again.split("c") == "validation"


def test_info_counts_per_split(tmp_path):
    info = filled(tmp_path / "s.zarr", {"a": "train", "b": "train", "c": "test"}, frames=31).info()
    assert info["splits"]["train"]["videos"] == 2
    assert info["splits"]["train"]["frames"] == 62
    assert info["splits"]["train"]["valid"] == 52
    assert info["splits"]["train"]["hours"] == pytest.approx(2 * 1.0 / 3600)
    assert info["splits"]["validation"]["videos"] == 0
    assert info["streams"]["image"]["fingerprint"] == IMAGE
    assert info["bytes"] == sum(stream["bytes"] for stream in info["streams"].values()) > 0
    assert info["format"] == 1
    assert info["dataset"] == DATASET


def test_notes_and_failures_are_kept(tmp_path):
    store = filled(tmp_path / "s.zarr")
    store.record_failure("video2", "video2.mp4: is cut off; copy it again")
    again = FeatureStore.open(store.path)
    assert again.notes("video1") == ["no audio stream: silence"]
    assert again.failed() == {"video2": "video2.mp4: is cut off; copy it again"}
    again.record_failure("video3", "another")
    again.clear_failure("video2")
    again.clear_failure("never")
    assert FeatureStore.open(store.path).failed() == {"video3": "another"}
    again.clear_failure("video3")
    assert FeatureStore.open(store.path).failed() == {}
    assert not (store.path / "failed").exists()  # as if nothing had ever failed


def test_a_video_is_moved_to_another_split_under_every_name(tmp_path):
    filled(tmp_path / "s.zarr", {"a": "train", "b": "train"})
    other = {"image": {**IMAGE, "model": "B-32"}, "audio": {"schema": 1}, "labels": {"schema": 1}}
    store = FeatureStore.create(tmp_path / "s.zarr", recipe={"image_rate": "all"}, stream="b32", fingerprints=other)
    for video in ("a", "b"):
        with store.writer("image", video, other["image"]) as writer:
            writer.append(embedding=np.ones((1, 8), np.float16), frame=np.ones(1, np.int32), time=np.zeros(1))
            writer.publish({"split": "train", "notes": []})
    for name, stays in ((None, "image"), ("b32", "image.b32")):
        split = "validation" if name else "test"
        store = FeatureStore.open(tmp_path / "s.zarr", name)
        store.write_index()
        store.move("a", split, but=["image"])
        said = {
            marker.parent.parent.name: read_attributes(Folder(marker.parent))["split"]
            for marker in store.path.glob("[!.]*/a/zarr.json")
        }
        assert {stream for stream in said if said[stream] != split} == {stays}
        assert FeatureStore.open(store.path).split("a") == split
    (store.path / "audio/b/zarr.json").write_bytes(b"damaged")
    store.move("b", "test")  # all but what is damaged
    assert FeatureStore.open(store.path).split("b") == "test"


def test_prompts_are_added_to_those_that_are_there(tmp_path):
    store = FeatureStore.create(tmp_path / "s.zarr")
    assert store.text() == {}
    store.write_text({"a face": np.ones(4, np.float32)}, {"model": "m"})
    store.write_text({"a smile": np.full(4, 2, np.float32)}, {"model": "m"})
    read = FeatureStore.open(store.path).text()
    assert {prompt: vector.tolist() for prompt, vector in read.items()} == {"a face": [1.0] * 4, "a smile": [2.0] * 4}
    with pytest.raises(FingerprintError, match="model: m here, n asked for"):
        store.write_text({"x": np.ones(4, np.float32)}, {"model": "n"})


def test_another_fingerprint_is_refused_with_every_field_that_differs(tmp_path):
    store = filled(tmp_path / "s.zarr")
    other = {"schema": 1, "model": "ViT-B-32", "log_mel": {"bins": 64}, "size": 224}
    with pytest.raises(FingerprintError) as refusal:
        store.writer("image", "video2", other)
    message = str(refusal.value)
    assert "model: ViT-B-16-quickgelu here, ViT-B-32 asked for" in message
    assert "log_mel.bins: 128 here, 64 asked for" in message
    assert "size: nothing here, 224 asked for" in message
    assert "schema" not in message
    assert "\n" not in message
    assert not (store.path / "image" / "video2").exists()


def test_another_data_set_is_refused(tmp_path):
    store = filled(tmp_path / "s.zarr")
    with pytest.raises(FingerprintError, match="faces: crops here, frames asked for"):
        FeatureStore.create(store.path, dataset={**DATASET, "faces": "frames"}, recipe={})


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../a", "a b", "ä", "zarr.json", "__x", "a\n"])
def test_names_that_could_leave_the_store_are_refused(tmp_path, name):
    store = FeatureStore.create(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match="cannot be the name of a video"):
        store.writer("image", name, {})
    with pytest.raises(StoreError):
        store.image(name)


def test_a_place_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for place in ("folder", "file"):
        with pytest.raises(TargetError, match="is not a feature store"):
            FeatureStore.create(tmp_path / place)
    with pytest.raises(TargetError, match="cannot be written"):
        FeatureStore.create(tmp_path / "file" / "s.zarr")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "thesis.txt"]


def test_a_packed_store_says_that_it_can_only_be_read(tmp_path):
    store, packed = filled(tmp_path / "s.zarr"), tmp_path / "s.zarr.zip"
    pack(store.path, packed)
    before = packed.read_bytes()
    for make in (FeatureStore.create, partial(pull, store.path)):
        with pytest.raises(TargetError, match="can only be read; give a folder, or unpack it into one with: vaprompt"):
            make(packed)
    assert packed.read_bytes() == before
    with zipfile.ZipFile(packed, "w") as other:
        other.writestr("thesis.txt", "years of work")
    with pytest.raises(TargetError, match="is not a feature store"):
        FeatureStore.create(packed)


def test_no_store_is_made_within_another(tmp_path):
    store = filled(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zip")
    for place in (store.path / "part.zarr", store.path / "image" / "deeper" / "part.zarr"):
        for make in (FeatureStore.create, partial(unpack, tmp_path / "s.zip"), partial(pull, store.path)):
            with pytest.raises(TargetError, match=r"lies within .*s\.zarr, which is a store itself; choose a place"):
                make(place)
    assert verify(store.path).ok
    FeatureStore.create(store.path / ".." / "beside.zarr")


def test_features_without_labels_are_told_of(tmp_path):
    store = filled(tmp_path / "s.zarr")
    shutil.rmtree(store.path / "labels")
    found = FeatureStore.open(store.path).info()
    assert set(found["streams"]) == {"image", "audio"}
    assert found["splits"]["train"]["videos"] == 0


@pytest.mark.parametrize("place", ["missing.zarr", "folder", "file"])
def test_what_is_not_a_store_is_said_not_to_be(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"feature store.*extract"):
        FeatureStore.open(tmp_path / place)


def test_writing_again_replaces_and_forgets_what_was_known(tmp_path):
    store = filled(tmp_path / "s.zarr")
    assert store.split("video1") == "train"
    add(store, "video1", split="test", frames=12)
    assert store.split("video1") == "test"
    assert len(store.image("video1").frame_N) == 12


def test_looking_at_a_store_loads_neither_torch_nor_zarr():
    code = "import sys, vaprompt.store; sys.exit(bool({'torch', 'zarr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_another_writer_replaces_meanwhile_is_read_whole(tmp_path):
    contents = [b"short", b"long " * 1000]
    place, ended = tmp_path / "zarr.json", threading.Event()
    place.write_bytes(contents[0])

    def replace():
        while not ended.is_set():
            for content in contents:
                (tmp_path / "aside").write_bytes(content)
                (tmp_path / "aside").replace(place)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        found = {Folder(tmp_path).read("zarr.json") for _ in range(5000)}
    finally:
        ended.set()
        writer.join()
    assert found == set(contents)
