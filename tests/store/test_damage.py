"""Whatever happens to a store's files, it is noticed; whatever is killed, nothing half-written counts."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.store.stores import add, filled
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore


def one_line(error: pytest.ExceptionInfo[StoreError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "run extract again" in message or "vaprompt" in message
    return message


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_copy_without_its_root_says_so(tmp_path):
    store = filled(tmp_path / "s.zarr")
    (store.path / "zarr.json").unlink()
    with pytest.raises(StoreError, match="as where a copy was cut short; copy it again") as error:
        FeatureStore.open(store.path)
    assert "\n" not in str(error.value)


def test_a_deleted_chunk_is_an_error_and_never_zeros(tmp_path):
    store = filled(tmp_path / "s.zarr")
    (store.path / "image/video1/embedding/c/0/0").unlink()
    with pytest.raises(StoreError, match="is missing") as error:
        FeatureStore.open(store.path).image("video1")
    assert "image/video1/embedding/c/0/0" in one_line(error)


def test_a_chunk_of_zeros_is_a_file_too(tmp_path):
    store = filled(tmp_path / "s.zarr")
    assert np.all(store.labels("video1").value_F2 == 0)
    (store.path / "labels/video1/value/c/0/0").unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.labels("video1")


def test_a_flipped_bit_is_noticed(tmp_path):
    store = filled(tmp_path / "s.zarr")
    chunk = store.path / "audio/video1/embedding/c/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(StoreError) as error:
        store.audio("video1")
    one_line(error)


def test_a_truncated_chunk_is_noticed(tmp_path):
    store = filled(tmp_path / "s.zarr")
    chunk = store.path / "image/video1/time/c/0"
    chunk.write_bytes(chunk.read_bytes()[:-8])
    with pytest.raises(StoreError, match="bytes instead of") as error:
        store.image("video1")
    one_line(error)


def test_changed_array_metadata_is_noticed(tmp_path):
    store = filled(tmp_path / "s.zarr")
    metadata = store.path / "image/video1/embedding/zarr.json"
    metadata.write_text(metadata.read_text().replace("float16", "bfloat1"))
    with pytest.raises(StoreError, match="is not what was written"):
        store.image("video1")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"zarr_format": 2}', '{"zarr_format": 3, "node_type": "array"}'])
@pytest.mark.parametrize("place", ["", "image", "image/video1", "labels/video1"])
def test_damaged_metadata_is_one_line(tmp_path, place, content):
    store = filled(tmp_path / "s.zarr")
    (store.path / place / "zarr.json").write_text(content)
    with pytest.raises(StoreError) as error:
        FeatureStore.open(store.path).info()
    assert "zarr.json" in one_line(error)


def test_another_format_is_refused(tmp_path):
    store = filled(tmp_path / "s.zarr")
    store.record_maker({"vaprompt": "7.8.9"})
    root = store.path / "zarr.json"
    root.write_text(root.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match=r"has format 2, vaprompt .* reads format 1; use vaprompt 7\.8\.9"):
        FeatureStore.open(store.path)


def test_a_video_without_marker_is_not_done(tmp_path):
    store = filled(tmp_path / "s.zarr", {"a": "train", "b": "train"})
    (store.path / "image/a/zarr.json").unlink()
    assert FeatureStore.open(store.path).videos() == ["b"]
    add(store, "a")
    assert FeatureStore.open(store.path).videos() == ["a", "b"]


def test_leaving_without_publishing_leaves_nothing(tmp_path):
    store = filled(tmp_path / "s.zarr")
    before = files_below(store.path)

    def interrupted() -> None:
        with store.writing(), store.writer("image", "video2", store.fingerprint("image")) as writer:
            writer.append(embedding=np.zeros((5000, 512), np.float16))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    with store.writing():
        pass
    assert files_below(store.path) == before


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vaprompt.store import FeatureStore
from vaprompt.store import writing
store = FeatureStore.open(sys.argv[1])
moment = sys.argv[2]
if moment == "before the rename":
    Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if moment == "before the marker":
    writing._files = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with store.writer("image", "video2", store.fingerprint("image")) as writer:
    writer.append(embedding=np.ones((3000, 512), np.float16))
    if moment == "amid the arrays":
        os.kill(os.getpid(), signal.SIGKILL)
    writer.publish({"split": "train"})
"""


@pytest.mark.parametrize("moment", ["amid the arrays", "before the marker", "before the rename"])
def test_a_killed_writer_ends_like_an_undisturbed_one(tmp_path, moment):
    store = filled(tmp_path / "s.zarr")
    undisturbed = tmp_path / "u.zarr"
    shutil.copytree(store.path, undisturbed)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(store.path), moment], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    assert FeatureStore.open(store.path).done("image") == {"video1"}
    assert not (store.path / "image" / "video2").exists()
    for path in (store.path, undisturbed):
        again = FeatureStore.open(path)
        with again.writing(), again.writer("image", "video2", again.fingerprint("image")) as writer:
            writer.append(embedding=np.ones((3000, 512), np.float16))
            writer.publish({"split": "train"})
    assert files_below(store.path) == files_below(undisturbed)


def test_the_names_of_a_store_and_its_streams_are_on_the_disk(tmp_path, monkeypatch):
    synced: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink())))
    FeatureStore.create(tmp_path / "s.zarr", fingerprints={"image": {"schema": 1}})
    assert {str(tmp_path), str(tmp_path / "s.zarr"), str(tmp_path / "s.zarr/image")} <= synced


def test_every_file_is_on_the_disk_before_the_group_appears(tmp_path, monkeypatch):
    store = filled(tmp_path / "s.zarr")
    synced: set[str] = set()
    published: list[set[str]] = []
    rename = Path.rename

    def remember(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def renamed(self: Path, target: Path) -> Path:
        if Path(target) == store.path / "image/video2":  # not what says that somebody writes
            published.append({str(self), *(str(file) for file in self.rglob("*"))} - synced)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(Path, "rename", renamed)
    with store.writer("image", "video2", store.fingerprint("image")) as writer:
        writer.append(embedding=np.ones((3000, 512), np.float16))
        writer.publish({"split": "train"})
    (unsynced,) = published
    # The marker is synced under the name that it has until it is whole.
    assert {Path(name).name for name in unsynced} <= {"zarr.json"}
    assert len(unsynced) <= 1
    assert any(".zarr.json" in name for name in synced)
    assert str(store.path / "image") in synced
