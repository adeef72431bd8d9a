"""A store as one zip or HDF5 file, and back: the same files, and nothing half-made, damaged or overwritten."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.listening import Listening
from tests.store.stores import content, filled, several
from vaprompt.errors import StoreError, TargetError
from vaprompt.store import FeatureStore, leases
from vaprompt.store.layout import group_metadata
from vaprompt.store.leases import ROOT, present
from vaprompt.store.sharing.hdf5 import export, import_
from vaprompt.store.sharing.packed import pack, unpack

FORMS = {"zip": (pack, unpack, "s.zarr.zip"), "hdf5": (export, import_, "s.h5")}
FLOW = pytest.mark.parametrize("form", FORMS)


@FLOW
def test_there_and_back_is_the_same_store(tmp_path, form):
    there, back, name = FORMS[form]
    store = several(tmp_path / "s.zarr")
    there(store.path, tmp_path / name)
    back(tmp_path / name, tmp_path / "back.zarr")
    assert content(tmp_path / "back.zarr") == content(store.path)
    assert FeatureStore.open(tmp_path / "back.zarr").info() == store.info()
    there(tmp_path / "back.zarr", tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


@FLOW
def test_doing_it_again_changes_nothing(tmp_path, form):
    there, back, name = FORMS[form]
    store = filled(tmp_path / "s.zarr")
    for _ in range(2):
        there(store.path, tmp_path / name)
        back(tmp_path / name, tmp_path / "back.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["s.zarr", name, "back.zarr"])


@FLOW
def test_nothing_else_is_overwritten(tmp_path, form):
    there, back, name = FORMS[form]
    store, other = filled(tmp_path / "s.zarr"), filled(tmp_path / "other.zarr", frames=31)
    before = content(other.path)
    there(store.path, tmp_path / name)
    for target in (other.path, tmp_path / "notes"):
        if target != other.path:
            target.mkdir()
            (target / "mine.txt").write_text("mine")
        with pytest.raises(TargetError, match="exists and holds something else"):
            back(tmp_path / name, target)
    assert content(other.path) == before
    packed = (tmp_path / name).read_bytes()
    with pytest.raises(TargetError, match="exists and holds something else"):
        there(other.path, tmp_path / name)
    assert (tmp_path / name).read_bytes() == packed
    with pytest.raises(TargetError):
        there(store.path, tmp_path)
    with pytest.raises(TargetError, match="cannot be written"):
        back(tmp_path / name, tmp_path / name)


@FLOW
def test_no_file_is_written_into_a_store(tmp_path, form):
    there, _, name = FORMS[form]
    store, other = filled(tmp_path / "s.zarr"), filled(tmp_path / "other.zarr")
    before = content(store.path)
    for source in (store, other):
        for place in (store.path, store.path / "image"):
            with pytest.raises(TargetError, match=r"lies within .*s\.zarr, which is a store itself; choose a place"):
                there(source.path, place / name)
    assert content(store.path) == before


@FLOW
@pytest.mark.parametrize("fault", ["flipped", "short", "missing", "marker"])
def test_a_damaged_store_is_not_passed_on(tmp_path, form, fault):
    there, _, name = FORMS[form]
    store = filled(tmp_path / "s.zarr")
    file = store.path / ("audio/video1/zarr.json" if fault == "marker" else "audio/video1/embedding/c/0/0/0")
    raw = bytearray(file.read_bytes())
    raw[7] ^= 4
    if fault == "missing":
        file.unlink()
    else:
        file.write_bytes(raw[:-3] if fault == "short" else raw)
    with pytest.raises(StoreError, match=str(file)):
        there(store.path, tmp_path / name)
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.glob(".*"))


@FLOW
def test_a_flipped_bit_in_the_one_file_is_found(tmp_path, form):
    there, back, name = FORMS[form]
    store = filled(tmp_path / "s.zarr")
    chunk = (store.path / "image/video1/embedding/c/0/0").read_bytes()[:-4]
    there(store.path, tmp_path / name)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[bytes(raw).index(chunk) + 100] ^= 1
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(StoreError, match="image/video1/embedding/c/0/0"):
        back(tmp_path / name, tmp_path / "back.zarr")
    with pytest.raises(StoreError, match="no feature store"):
        FeatureStore.open(tmp_path / "back.zarr")


KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from vaprompt.store.groups import Group
module, name, source, target, left = sys.argv[1:]
read, left = Group.read, int(left)
def counted(self, file):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, file)
Group.read = counted
getattr(importlib.import_module(module), name)(Path(source), Path(target))
"""


def kill(call: Callable[..., None], source: Path, target: Path, after: int) -> None:
    """Do `call` in a process that is killed when it has read some files."""
    command = [sys.executable, "-c", KILLED, call.__module__, call.__name__, source, target, str(after)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


@FLOW
def test_a_killed_call_leaves_nothing_that_looks_whole_and_the_next_finishes(tmp_path, form):
    there, back, name = FORMS[form]
    store = filled(tmp_path / "s.zarr", {"a": "train", "b": "train"})
    kill(there, store.path, tmp_path / name, 5)
    assert not (tmp_path / name).exists()
    assert len(list(tmp_path.glob(".s*"))) == 1
    there(store.path, tmp_path / name)
    assert not list(tmp_path.glob(".s*"))
    target = tmp_path / "back.zarr"
    kill(back, tmp_path / name, target, 31)  # of 32, so that a few groups are in place
    with pytest.raises(StoreError, match="copying it was not finished"):
        FeatureStore.open(target)
    with present(target) as other, other.holding(ROOT), pytest.raises(TargetError, match="another process is writing"):
        back(tmp_path / name, target)
    before = {marker: marker.stat().st_mtime_ns for marker in target.glob("*/*/zarr.json")}
    assert 2 <= len(before) < 6
    back(tmp_path / name, target)
    assert content(target) == content(store.path)
    # What was whole is not done again.
    assert before.items() <= {marker: marker.stat().st_mtime_ns for marker in target.glob("*/*/zarr.json")}.items()


@pytest.fixture
def half_unpacked(tmp_path, monkeypatch) -> Path:
    """Return the folder of an unpacking that was killed while it ran on another machine, or before a restart."""
    monkeypatch.setattr(leases, "BEAT", 0.1)
    monkeypatch.setattr(leases, "PATIENCE", 2.0)
    pack(several(tmp_path / "s.zarr").path, tmp_path / "s.zarr.zip")
    target = tmp_path / "t.zarr"
    kill(unpack, tmp_path / "s.zarr.zip", target, 31)
    for file in (target / ".leases").iterdir():
        file.write_text(json.dumps({**json.loads(file.read_text()), "host": "other", "pid": 7, "space": "another"}))
    assert [file.suffix for file in sorted((target / ".leases").iterdir())].count(".lease") == 1
    return target


def test_what_was_killed_elsewhere_is_taken_over_after_a_while(tmp_path, half_unpacked):
    progress = Listening()
    unpack(tmp_path / "s.zarr.zip", half_unpacked, progress=progress)
    assert content(half_unpacked) == content(tmp_path / "s.zarr")
    (said,) = progress.said
    assert "process 7 on other was writing into it; waiting up to" in said


def test_what_is_alive_elsewhere_is_named_and_left_alone(tmp_path, half_unpacked):
    (writer,) = (half_unpacked / ".leases").glob("*.writer")
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.1):
            os.utime(writer)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(TargetError, match=r"another process is writing into it \(process 7 on other\)"):
            unpack(tmp_path / "s.zarr.zip", half_unpacked)
    finally:
        over.set()
        thread.join()
    assert writer.exists()


def test_a_packed_store_is_plain_sorted_and_ends_with_its_index(tmp_path):
    store = several(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zarr.zip")
    with zipfile.ZipFile(tmp_path / "s.zarr.zip") as archive:
        entries = archive.infolist()
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    names = [entry.filename for entry in entries]
    markers = [name for name in names if name.endswith("zarr.json") and f"{name[:-9]}c/0" not in "".join(names)]
    assert names[-2:] == ["zarr.json", ".index.json"]
    assert names.index("image/a/zarr.json") > names.index("text/embedding/c/0/0")
    assert names.index("image/zarr.json") > names.index("labels/c.d/zarr.json")
    assert set(markers) <= set(names)
    assert {name for name in names if name != ".index.json"} == set(content(store.path))


def test_a_packed_store_reads_in_place_like_the_folder(tmp_path):
    store = several(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zarr.zip")
    packed = FeatureStore.open(tmp_path / "s.zarr.zip")
    assert packed.info() == store.info()
    assert packed.image("long").embedding_ND.tobytes() == store.image("long").embedding_ND.tobytes()
    assert packed.text().keys() == {"calm", "angry"}


def test_a_packed_store_that_is_written_over_while_it_is_read_is_told_so(tmp_path):
    """As by `cp` onto it, and no fault of the disk; one that is renamed onto it is another file."""
    videos = {"a": "train", "b": "train"}
    pack(filled(tmp_path / "s.zarr", videos, frames=600).path, tmp_path / "s.zip")
    pack(filled(tmp_path / "other.zarr", {**videos, "0": "train"}, frames=700).path, tmp_path / "other.zip")
    shutil.copyfile(tmp_path / "s.zip", tmp_path / "renamed.zip")
    overwritten, renamed = (FeatureStore.open(tmp_path / name) for name in ("s.zip", "renamed.zip"))
    shutil.copyfile(tmp_path / "other.zip", tmp_path / "s.zip")
    with pytest.raises(StoreError, match="written over while it was being read; run the same command again"):
        overwritten.image("b")
    (tmp_path / "other.zip").replace(tmp_path / "renamed.zip")
    assert len(renamed.image("b").frame_N) == 600


def test_zarr_python_reads_a_packed_store(tmp_path):
    store = several(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zarr.zip")
    with zarr.storage.ZipStore(tmp_path / "s.zarr.zip", mode="r") as archive:
        group = zarr.open_group(archive, mode="r")
        assert sorted(name for name, _ in group["image"].groups()) == ["a", "b", "c.d", "long"]
        assert np.array_equal(group["image/long/embedding"][:], store.image("long").embedding_ND)
        assert group["labels/b"].attrs["split"] == "validation"


READER = """
import json, sys, h5py
with h5py.File(sys.argv[1], "r", swmr=True, libver="latest") as file:
    assert file.swmr_mode
    image = file["image/long"]
    marker = json.loads(image["zarr.json"][:].tobytes())["attributes"]
    print(json.dumps([marker["split"], image["embedding"].shape, str(image["embedding"].dtype),
        str(file["labels/a/valid"].dtype), float(image["embedding"][:].astype("f8").sum()),
        [float(time) for time in image["time"][-3:]], sorted(file)]))
"""


def test_another_process_reads_an_exported_store_in_swmr_mode(tmp_path):
    store = several(tmp_path / "s.zarr")
    export(store.path, tmp_path / "s.h5")
    read = subprocess.run([sys.executable, "-c", READER, tmp_path / "s.h5"], check=True, capture_output=True, text=True)
    image = store.image("long")
    assert json.loads(read.stdout) == [
        "train",
        [3000, 512],
        "float16",
        "bool",
        float(image.embedding_ND.astype("f8").sum()),
        image.time_N[-3:].tolist(),
        ["audio", "failed", "image", "labels", "text", "zarr.json"],
    ]


def test_unpacking_claims_no_more_than_the_archive_has(tmp_path):
    store = filled(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zip")
    # Many entries that all point to the same bytes: legal for a zip reader, a full disk for whoever unpacks them.
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        there = {entry.filename: entry for entry in archive.infolist()}
        contents = {name: archive.read(name) for name in there}
    big = max(there, key=lambda name: there[name].file_size if "/c/" in name else 0)
    assert contents[big]
    crafted = tmp_path / "c.zip"
    group = big.partition("/embedding")[0]
    marker = json.loads(contents[f"{group}/zarr.json"])["attributes"]
    marker.pop("digest")
    facts = marker["files"][big.removeprefix(f"{group}/")]
    more = {f"embedding/c/{number}/0/0": facts for number in range(1, 3000)}
    contents[f"{group}/zarr.json"] = group_metadata(marker | {"files": marker["files"] | more})
    with zipfile.ZipFile(crafted, "w") as archive:
        for name, raw in contents.items():
            archive.writestr(name, raw)
        first = archive.NameToInfo[big]
        for name in more:
            entry = zipfile.ZipInfo(f"{group}/{name}")
            entry.CRC, entry.file_size, entry.compress_size = first.CRC, first.file_size, first.compress_size
            entry.header_offset, entry.external_attr = first.header_offset, 0
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
        archive._didModify = True
    with pytest.raises(StoreError, match="says that it holds"):
        unpack(crafted, tmp_path / "back.zarr")
    assert not (tmp_path / "back.zarr").exists()


@pytest.mark.parametrize("name", ["c/0/0", "../x/c/0", "x/../../c/0", ".x/zarr.json", "x/c/", "zarr.json", "x/y"])
def test_a_marker_lists_files_of_arrays_only(tmp_path, name):
    store = filled(tmp_path / "s.zarr")
    marker = store.marker("image", "video1")
    marker["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (store.path / "image/video1/zarr.json").write_bytes(group_metadata(marker))
    with pytest.raises(StoreError, match=r"lists a file '.*do not trust"):
        pack(store.path, tmp_path / "s.zip")


@FLOW
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, form):
    there, _, name = FORMS[form]
    store = several(tmp_path / "s.zarr")
    module = there.__module__
    code = (
        "import resource, signal, sys; from pathlib import Path; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); "
        f"from {module} import {there.__name__} as there; from vaprompt.errors import TargetError\n"
        "try:\n    there(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except TargetError as error:\n    print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, store.path, tmp_path / name], check=True, capture_output=True, text=True
    )
    assert "cannot be written (File too large)" in ended.stdout
    assert len(ended.stdout.splitlines()) == 1
    assert not ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.slow
def test_mutated_zip_files_end_in_one_line_or_in_the_same_store(tmp_path):
    store = filled(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zip")
    raw, wanted, chance = (tmp_path / "s.zip").read_bytes(), content(store.path), random.Random(3)
    done, file = 0, tmp_path / "m.zip"
    for number in range(300):
        changed = bytearray(raw)
        # Every other one in the directory at the end, which says where everything is.
        start = len(raw) - 3000 if number % 2 else 0
        for _ in range(chance.choice((1, 1, 5, 50))):
            changed[chance.randrange(start, len(raw))] ^= 1 << chance.randrange(8)
        file.write_bytes(changed[: chance.randrange(len(raw))] if number % 10 == 0 else changed)
        target = tmp_path / f"{number}.zarr"
        with contextlib.suppress(StoreError):
            unpack(file, target)
            done += 1
            assert content(target) == wanted
    assert 0 < done < 200


@FLOW
def test_a_pipe_or_device_is_no_store(tmp_path, form):
    _, back, _ = FORMS[form]
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(StoreError, match=r"no plain file|no feature store"):
            back(source, tmp_path / "back.zarr")


@FLOW
def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path, form):
    there, back, name = FORMS[form]
    store = filled(tmp_path / "s[1]*.zarr")
    for number in (999999, os.getppid()):  # left by a killed process, and under way in another
        (tmp_path / f".a[1]{name}.{number}.partial{Path(name).suffix}").touch()
    there(store.path, tmp_path / f"a[1]{name}")
    back(tmp_path / f"a[1]{name}", tmp_path / "b[2]*.zarr")
    assert content(tmp_path / "b[2]*.zarr") == content(store.path)
    assert [path.name for path in tmp_path.glob(".*")] == [f".a[1]{name}.{os.getppid()}.partial{Path(name).suffix}"]
