"""A store from anywhere: whatever its files say, nothing outside is read and no memory is asked for that it has not."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.rights import open_folder, without_rights
from tests.store.stores import DATASET, filled, several
from vaprompt.cli.main import run
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.reading import parse_form
from vaprompt.store.repair import repair
from vaprompt.store.sharing.combining import merge, subset
from vaprompt.store.sharing.hdf5 import export
from vaprompt.store.sharing.packed import pack
from vaprompt.store.storage import Folder, Zip
from vaprompt.store.verification import verify


def metadata(**changes) -> bytes:
    content = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [30, 8],
        "data_type": "float16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [30, 8]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "attributes": {},
    }
    return json.dumps(content | changes).encode()


def grid(*shape: object) -> dict[str, object]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def test_the_form_that_is_written_is_read():
    form = parse_form(metadata())
    assert (form.shape, form.dtype.name, form.rows, form.chunks, form.chunk_bytes) == ((30, 8), "float16", 30, 1, 480)
    assert form.key(0) == "c/0/0"
    assert parse_form(metadata(chunk_grid=grid(7, 8))).chunks == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 2},
        {"node_type": "group"},
        {"shape": [-1, 8]},
        {"shape": [30, 0], "chunk_grid": grid(30, 1)},
        {"shape": [2**62, 8]},
        {"shape": [30, 8.0]},
        {"shape": [True, 8]},
        {"shape": []},
        {"shape": "30"},
        {"shape": None},
        {"shape": [30] * 5},
        {"data_type": "object"},
        {"data_type": "complex128"},
        {"data_type": {"name": "r16"}},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]},
        {"codecs": [{"name": "vlen-utf8"}]},
        {"codecs": [{"name": "zstd"}, {"name": "crc32c"}]},
        {"codecs": None},
        {"chunk_grid": grid(0, 8)},
        {"chunk_grid": grid(2**39, 8)},
        {"chunk_grid": grid(30, 4)},
        {"chunk_grid": grid(30)},
        {"chunk_grid": "regular"},
        {"chunk_grid": {"name": "regular", "configuration": None}},
        {"chunk_key_encoding": {"name": "v2"}},
    ],
)
def test_any_other_form_is_refused(changes):
    with pytest.raises(ValueError, match=r" (is|are|has) "):
        parse_form(metadata(**changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"shape": 1e999}', b"null"])
def test_what_is_no_metadata_is_refused(content):
    with pytest.raises((ValueError, RecursionError)):
        parse_form(content)


@pytest.mark.parametrize("place", ["image/video1/embedding/c/0/0", "image/video1/zarr.json", "image/video1", "labels"])
def test_no_symbolic_link_is_followed(tmp_path, place):
    store = filled(tmp_path / "s.zarr")
    inside, outside = store.path / place, tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    read = FeatureStore.open(store.path)
    with pytest.raises(StoreError, match=r"symbolic link|has no"):
        read.image("video1"), read.labels("video1")


@pytest.mark.parametrize("place", ["image", "image/a", "text"])
@pytest.mark.parametrize("dangling", [False, True])
def test_what_was_moved_and_linked_back_is_missed_by_nobody(tmp_path, place, dangling):
    """Else a stream on another disk would be left out of whatever is made of the store, without a word."""
    store = several(tmp_path / "s.zarr")
    moved = tmp_path / "elsewhere"
    (store.path / place).rename(moved)
    (store.path / place).symlink_to(moved)
    if dangling:  # as while the disk is not there
        moved.rename(tmp_path / "away")
    for use in (
        lambda: FeatureStore.open(store.path).info(),
        lambda: pack(store.path, tmp_path / "s.zarr.zip"),
        lambda: export(store.path, tmp_path / "s.h5"),
        lambda: subset(store.path, tmp_path / "part.zarr", videos=["b"]),
        lambda: merge([store.path, filled(tmp_path / "other.zarr", {"z": "train"}).path], tmp_path / "both.zarr"),
    ):
        with pytest.raises(StoreError, match=rf"s\.zarr/{place}: is a symbolic link; put what it leads to"):
            use()
    assert not [path for path in tmp_path.iterdir() if path.name in ("s.zarr.zip", "s.h5", "part.zarr", "both.zarr")]
    stream, _, video = place.partition("/")
    found = verify(store.path)
    (fault,) = [fault for fault in found.faults if "symbolic link" in fault.fault]
    assert (fault.stream, fault.video) == (stream, video)
    left = repair(store.path, found).left
    assert (fault in left) == (place == "image")
    assert (tmp_path / "away" if dangling else moved).is_dir()


def test_a_store_without_rights_is_one_line_and_no_fault_of_ours():
    with open_folder() as folder:
        store = filled(folder / "s.zarr").path
        pack(store, folder / "s.zip")
        uses = {
            "read": lambda: FeatureStore.open(store).image("video1"),
            "info": lambda: FeatureStore.open(store).info(),
            "verify": lambda: verify(store, deep=True),
            "extract": lambda: FeatureStore.create(store, dataset=DATASET),
            "subset": lambda: subset(store, folder / "part.zarr"),
        }
        for closed in (store, store / "image", store / "image/video1"):
            closed.chmod(0)
            for name, use in uses.items():
                with without_rights():
                    if name == "verify" and closed == store / "image/video1":
                        assert "Permission denied" in use().faults[0].fault
                    elif name != "extract" or closed == store:
                        with pytest.raises(StoreError, match=r"cannot be read \(Permission denied\)"):
                            use()
            closed.chmod(0o755)
        (folder / "s.zip").chmod(0)
        with without_rights(), pytest.raises(StoreError, match="Permission denied"):
            FeatureStore.open(folder / "s.zip")


@pytest.mark.parametrize("action", [["info"], ["verify"], ["pack", "out.zip"]])
def test_a_place_that_cannot_even_be_looked_at_is_the_users_to_mend(tmp_path, capsys, action):
    """As a server that is away (ESTALE), or a disk that fails (EIO)."""
    assert run(["store", action[0], str(tmp_path / ("x" * 300)), *(str(tmp_path / name) for name in action[1:])]) == 2
    assert "cannot be read (File name too long); check its rights" in capsys.readouterr().err


def test_a_store_may_itself_be_behind_a_link(tmp_path):
    store = filled(tmp_path / "s.zarr")
    (tmp_path / "link").symlink_to(store.path)
    assert FeatureStore.open(tmp_path / "link").videos() == ["video1"]


def test_a_pipe_in_place_of_a_chunk_is_refused_and_not_waited_for(tmp_path):
    store = filled(tmp_path / "s.zarr")
    chunk = store.path / "image/video1/embedding/c/0/0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(StoreError, match="no plain file"):
        store.image("video1")


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\0b"])
def test_no_key_leaves_the_store(tmp_path, key):
    with pytest.raises(StoreError, match="could leave it"):
        Folder(tmp_path).read(key)


def test_metadata_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "zarr.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(StoreError, match="more than"):
        FeatureStore.open(tmp_path)


def zipped(folder: Path, target: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return target


def test_a_zip_file_reads_like_the_folder(tmp_path):
    store = filled(tmp_path / "s.zarr", {"a": "train", "b": "validation"})
    packed = FeatureStore.open(zipped(store.path, tmp_path / "s.zarr.zip"))
    assert packed.info() == store.info()
    assert packed.videos("validation") == ["b"]
    assert packed.image("a").embedding_ND.tobytes() == store.image("a").embedding_ND.tobytes()
    with pytest.raises(StoreError, match="can only be read"):
        packed.writer("image", "c", packed.fingerprint("image"))


def test_zip_files_that_could_harm_are_refused(tmp_path):
    store = filled(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match="compressed"):
        Zip(zipped(store.path, tmp_path / "c.zip", zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("../zarr.json", "{}")
    with pytest.raises(StoreError, match="could leave it"):
        Zip(tmp_path / "d.zip")
    with zipfile.ZipFile(tmp_path / "n.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "{}")
    with pytest.raises(StoreError, match="without a name"):
        Zip(tmp_path / "n.zip")
    (tmp_path / "e.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(StoreError, match="is no feature store"):
        FeatureStore.open(tmp_path / "e.zip")


TIME = np.arange(4) / 30
SENSELESS = {
    "times that never were": ("labels", {"time": np.array([0.0, 1.0, 2.0, 1e300])}, {}, "time: holds times beyond"),
    "times that go back": ("image", {"time": TIME[::-1].copy()}, {}, "time: is not ascending"),
    "more frames than the video has": ("image", {}, {"frames": 3}, "counts from 1 to 4"),
    "frames before the first": ("image", {"frame": np.arange(4, dtype=np.int32)}, {}, "counts from 0 to 3"),
    "another count of valid labels": ("labels", {}, {"valid": 3}, "counts 4 frames, and its marker 3"),
    "another type": ("labels", {"time": TIME.astype(np.float32)}, {}, "is float32 in 1 dimensions"),
    "other dimensions": ("image", {"time": TIME[:, None]}, {}, "is float64 in 2 dimensions"),
}


@pytest.mark.parametrize("senseless", SENSELESS)
def test_what_fits_its_digests_and_makes_no_sense_is_refused(tmp_path, senseless):
    stream, arrays, counts, said = SENSELESS[senseless]
    whole = {
        "image": {"embedding": np.zeros((4, 8), np.float16), "frame": np.arange(1, 5, dtype=np.int32), "time": TIME},
        "labels": {"value": np.zeros((4, 2), np.float32), "valid": np.ones(4, np.bool_), "time": TIME},
    }[stream]
    store = FeatureStore.create(tmp_path / "s.zarr", dataset=DATASET)
    with store.writer(stream, "v", {"schema": 1}) as writer:
        writer.append(**(whole | arrays))
        told = {"frames": 4, "encoded": 4, "valid": 4, "seconds": 0.1} | counts
        writer.publish({"split": "train", "counts": told, "notes": []})
    with pytest.raises(StoreError, match=said):
        getattr(FeatureStore.open(store.path), stream)("v")
    faults = verify(store.path, deep=True).faults
    assert [fault for fault in faults if fault.stream == stream]
