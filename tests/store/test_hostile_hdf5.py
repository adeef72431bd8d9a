"""An HDF5 file from anywhere: refused in one line or imported as it was, whatever libhdf5 makes of it."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.store.stores import content, filled
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.sharing import hdf5_storage
from vaprompt.store.sharing.hdf5 import export, import_
from vaprompt.store.sharing.hdf5_storage import Hdf5


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """Return a small exported store, `s.h5`, beside the store itself, `s.zarr`."""
    folder = tmp_path_factory.mktemp("exported")
    export(filled(folder / "s.zarr").path, folder / "s.h5")
    return folder / "s.h5"


def test_an_exported_store_in_the_place_of_a_store_is_told_the_way_back(exported):
    with pytest.raises(
        StoreError, match=r"s\.h5: is a store as HDF5.*make .* with: vaprompt store import .*s\.h5 STORE"
    ):
        FeatureStore.open(exported)


def replaced(group: h5py.Group, name: str, **made) -> h5py.Dataset:
    """Put another array in the place of one, with the same metadata."""
    metadata = group[name].attrs["zarr.json"]
    del group[name]
    array = group.create_dataset(name, **made)
    array.attrs["zarr.json"] = metadata
    return array


def soft(file):
    file["image/video2"] = h5py.SoftLink("/image/video1")


def external(file):
    file["image/video2"] = h5py.ExternalLink("/etc/passwd", "/")


def cycle(file):
    file["image/video1/again"] = file["image"]


def to_root(file):
    file["image/video2"] = file["/"]


def twice(file):
    file["image/video2"] = file["image/video1"]


def deep(file):
    file.create_group("image/video1/more")


def named_type(file):
    file["image/type"] = np.dtype("f8")


def virtual(file):
    layout = h5py.VirtualLayout((30, 8), "f2")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (30, 8))
    metadata = file["image/video1/embedding"].attrs["zarr.json"]
    del file["image/video1/embedding"]
    file["image/video1"].create_virtual_dataset("embedding", layout).attrs["zarr.json"] = metadata


def outside(file):
    replaced(file["image/video1"], "embedding", shape=(30, 8), dtype="f2", external=[("/etc/passwd", 0, 480)])


def outside_metadata(file):
    del file["image/video1/zarr.json"]
    file["image/video1"].create_dataset("zarr.json", (40,), "u1", external=[("/etc/passwd", 0, 40)])


def texts(file):
    replaced(file["image/video1"], "embedding", data=["a"] * 30, dtype=h5py.string_dtype(), chunks=(30,))


def references(file):
    replaced(file["image/video1"], "embedding", shape=(30, 8), dtype=h5py.ref_dtype, chunks=(30, 8))


def compound(file):
    replaced(file["image/video1"], "embedding", shape=(30, 8), dtype=[("a", "f2")], chunks=(30, 8))


def big_endian(file):
    replaced(file["image/video1"], "embedding", shape=(30, 8), dtype=">f2", chunks=(30, 8))


def another_type(file):
    replaced(file["image/video1"], "embedding", shape=(30, 8), dtype="i4", chunks=(30, 8))


def compressed(file):
    replaced(file["image/video1"], "embedding", data=np.zeros((30, 8), "f2"), chunks=(30, 8), compression="gzip")


def unknown_filter(file):
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk((30, 8))
    created.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    group = file["image/video1"]
    metadata = group["embedding"].attrs["zarr.json"]
    del group["embedding"]
    space = h5py.h5s.create_simple((30, 8))
    h5py.h5d.create(group.id, b"embedding", h5py.h5t.IEEE_F16LE, space, created)
    group["embedding"].attrs["zarr.json"] = metadata


def contiguous(file):
    replaced(file["image/video1"], "embedding", data=np.zeros((30, 8), "f2"))


def huge(file):
    replaced(file["image/video1"], "embedding", shape=(2**40, 8), dtype="f2", chunks=(30, 8))


def huge_metadata(file):
    del file["image/video1/zarr.json"]
    file["image/video1"].create_dataset("zarr.json", (2**40,), "u1")


def huge_attribute(file):
    file["image/video1/embedding"].attrs["zarr.json"] = np.zeros(10**6, np.uint8)


def no_attribute(file):
    del file["image/video1/embedding"].attrs["zarr.json"]


def text_attribute(file):
    file["image/video1/embedding"].attrs["zarr.json"] = "{}"


def rubbish_attribute(file):
    file["image/video1/embedding"].attrs["zarr.json"] = np.frombuffer(b"\xff{", np.uint8)


def other_shape(file):
    array = file["image/video1/embedding"]
    metadata = array.attrs["zarr.json"].tobytes().replace(b"30", b"60")
    array.attrs["zarr.json"] = np.frombuffer(metadata, np.uint8)


def no_chunk(file):
    replaced(file["image/video1"], "embedding", shape=(30, 8), maxshape=(None, 8), dtype="f2", chunks=(30, 8))


def no_marker(file):
    del file["zarr.json"]


def parent_name(file):
    file["image"].create_group("..hidden")


def odd_name(file):
    file["image"].create_group("vidéo")


def blank_name(file):
    file["image"].create_group("a b")


def hidden_stream(file):
    file.create_group(".aside")


CRAFTED: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "soft link": (soft, "soft or external link"),
    "external link": (external, "soft or external link"),
    "cycle": (cycle, "linked twice"),
    "link to the root": (to_root, "linked twice"),
    "linked twice": (twice, "linked twice"),
    "group in a group": (deep, "group where an array belongs"),
    "named type": (named_type, "neither group nor array"),
    "virtual": (virtual, "virtual"),
    "external storage": (outside, "another file"),
    "external metadata": (outside_metadata, "another file"),
    "texts of any length": (texts, "neither of numbers"),
    "references": (references, "neither of numbers"),
    "compound": (compound, "neither of numbers"),
    "big-endian": (big_endian, "neither of numbers"),
    "another type": (another_type, "not what its attribute"),
    "compressed": (compressed, "filtered or compressed"),
    "unknown filter": (unknown_filter, "filtered or compressed"),
    "contiguous": (contiguous, "not chunked"),
    "huge": (huge, "not what its attribute"),
    "huge metadata": (huge_metadata, "are not in a file of|more than"),
    "huge attribute": (huge_attribute, "no short sequence"),
    "no attribute": (no_attribute, "has no attribute"),
    "attribute of text": (text_attribute, "no short sequence"),
    "attribute of rubbish": (rubbish_attribute, "cannot be read"),
    "attribute of another shape": (other_shape, "not what its attribute"),
    "chunk left out": (no_chunk, "has 1 chunks|is missing"),
    "no root": (no_marker, "lacks the zarr.json that makes it a feature store"),
    "name with dots": (parent_name, "which no store has"),
    "name with accents": (odd_name, "which no store has"),
    "name with a blank": (blank_name, "which no store has"),
    "hidden": (hidden_stream, "which no store has"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_files_are_refused_in_one_line(tmp_path, exported, name):
    craft, fault = CRAFTED[name]
    file = tmp_path / "c.h5"
    shutil.copy(exported, file)
    with h5py.File(file, "r+", libver=("v110", "v110")) as opened:
        craft(opened)
    with pytest.raises(StoreError, match=fault) as error:
        import_(file, tmp_path / "back.zarr")
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    assert not (tmp_path / "back.zarr" / "zarr.json").exists()


@pytest.mark.parametrize("raw", [b"", b"rubbish", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(3000)])
def test_what_is_no_hdf5_file_is_refused(tmp_path, raw):
    (tmp_path / "c.h5").write_bytes(raw)
    with pytest.raises(StoreError, match=r"is no HDF5 file|cannot be read as HDF5"):
        import_(tmp_path / "c.h5", tmp_path / "back.zarr")
    with pytest.raises(StoreError, match=r"nothing\.h5: cannot be read"):
        import_(tmp_path / "nothing.h5", tmp_path / "back.zarr")
    assert not (tmp_path / "back.zarr").exists()


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os; os.kill(os.getpid(), 11)", "gave up with status -11"),
        ("import time; time.sleep(60)", "found nothing in it for 1 s"),
        ("while True: print('x' * 10**6)", "cannot be understood"),
        ("import sys; sys.stdout.write('1' * 2**29)", "no end"),
        ("print('[1]')", "cannot be understood"),
        ('print(\'{"group": "", "at": [0, 1e9]}\')', "are not in a file"),
        ('print(\'{"group": "", "at": [-1, 1]}\')', "are not in a file"),
        ("", "gave up with status 0"),
    ],
)
def test_a_crash_or_hang_of_libhdf5_is_one_line(tmp_path, exported, monkeypatch, code, fault):
    script = tmp_path / "listing.py"
    script.write_text(code)
    monkeypatch.setattr(hdf5_storage.hdf5_listing, "__file__", str(script))
    with pytest.raises(StoreError, match=fault):
        Hdf5(exported, patience=1 if "sleep" in code else 60)


IMPORTS = """
import os, resource, sys
from pathlib import Path
from vaprompt.errors import StoreError
from vaprompt.store.sharing.hdf5 import import_
os.fsync = lambda descriptor: None
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
for line in sys.stdin:
    file = Path(line.strip())
    try:
        import_(file, file.with_suffix(".zarr"))
    except StoreError as error:
        print("refused" if len(str(error).splitlines()) == 1 else repr(error), flush=True)
    else:
        print("done", flush=True)
"""
MUTATED, WORKERS = 210, 2


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """Return a file with bits flipped, cut off, or with a part of it copied over another, set or left out."""
    changed = bytearray(raw)
    # Mostly where the structure is, which is a small part of a file.
    start = chance.choice((0, 0, chance.randrange(len(raw))))
    end = min(len(raw), start + chance.choice((200, 3000, len(raw))))
    kind = chance.choice(("bit", "bit", "bits", "bytes", "cut", "splice", "fill", "left out"))
    if kind in ("bit", "bits"):
        for _ in range(1 if kind == "bit" else chance.randint(2, 50)):
            changed[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    elif kind == "bytes":
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(start, end)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif kind == "cut":
        del changed[chance.randrange(len(raw)) :]
    else:
        length = chance.randint(1, 400)
        at, source = (chance.randrange(len(raw) - length) for _ in range(2))
        fill = bytes([chance.choice((0, 0xFF))]) * length
        changed[at : at + length] = {"splice": raw[source : source + length], "fill": fill, "left out": b""}[kind]
    return bytes(changed)


@pytest.mark.slow
def test_mutated_files_end_in_one_line_or_in_the_same_store(tmp_path, exported, monkeypatch):
    chance = random.Random(4)
    wanted = content(exported.with_name("s.zarr"))
    # The format's first version has no checksums that libhdf5 would stop at.
    first, made = tmp_path / "first.h5", h5py.File
    monkeypatch.setattr(h5py, "File", lambda path, mode, **_: made(path, mode, libver=("earliest", "v108")))
    export(exported.with_name("s.zarr"), first)
    import_(first, tmp_path / "first.zarr")
    assert content(tmp_path / "first.zarr") == wanted
    bases = exported.read_bytes(), first.read_bytes()
    files = []
    for number in range(MUTATED):
        files.append(tmp_path / f"{number}.h5")
        files[-1].write_bytes(mutated(bases[number % 2], chance))

    def imported(part: list[Path]) -> list[str]:
        given = "".join(f"{file}\n" for file in part)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        ended = subprocess.run(
            [sys.executable, "-c", IMPORTS], input=given, capture_output=True, text=True, timeout=120, env=environment
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split("\n")[:-1]

    with ThreadPoolExecutor(WORKERS) as pool:
        parts = [files[worker::WORKERS] for worker in range(WORKERS)]
        outcomes = dict(
            pair
            for part, said in zip(parts, pool.map(imported, parts), strict=True)
            for pair in zip(part, said, strict=True)
        )
    assert set(outcomes.values()) == {"refused", "done"}
    for file, outcome in outcomes.items():
        if outcome == "done":
            assert content(file.with_suffix(".zarr")) == wanted
