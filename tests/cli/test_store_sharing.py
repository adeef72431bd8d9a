"""Sharing stores through the command line: one file, merged, cut down, compared."""

import json
from pathlib import Path

import pytest

from tests.cli.calling import call
from tests.store.stores import content, filled
from vaprompt.store import FeatureStore
from vaprompt.store.sharing.hdf5 import export
from vaprompt.store.sharing.packed import pack


def test_a_run_on_a_packed_store_is_that_on_the_folder(small_store: Path, small_run: Path, tmp_path: Path):
    packed, run = tmp_path / "small.zarr.zip", tmp_path / "run"
    outcome = call("store", "pack", small_store, packed, "--json")
    assert outcome.code == 0
    assert outcome.json == {"store": str(small_store), "file": str(packed), "bytes": packed.stat().st_size}
    assert "packing: " in outcome.err
    trained = call("train", packed, "--run", run, "train/demo.toml", "--set", "epochs=2", "--device", "cpu", "--json")
    assert trained.code == 0
    for name in ("checkpoint.safetensors", "metrics.jsonl"):
        assert (run / name).read_bytes() == (small_run / name).read_bytes()
    # The run knows the packed store by its path, and a score of it is that of the folder.
    scored, expected = call("evaluate", run, "--json"), call("evaluate", run, "--store", small_store, "--json")
    assert scored.code == expected.code == 0
    assert scored.json["official"] == expected.json["official"]
    assert call("store", "info", packed, "--json").json["bytes"] == FeatureStore.open(small_store).info()["bytes"]


@pytest.mark.parametrize(("there", "back", "name"), [("pack", "unpack", "s.zarr.zip"), ("export", "import", "s.h5")])
def test_a_real_store_comes_back_as_it_was(small_store: Path, tmp_path: Path, there: str, back: str, name: str):
    for _ in range(2):
        assert call("store", there, small_store, tmp_path / name).out == f"written: {tmp_path / name}\n"
        assert (
            call("store", back, tmp_path / name, tmp_path / "back.zarr").out == f"written: {tmp_path / 'back.zarr'}\n"
        )
    assert content(tmp_path / "back.zarr") == content(small_store)
    assert call("store", "diff", small_store, tmp_path / "back.zarr").out == "equal\n"
    refused = call("store", there, small_store, tmp_path / "back.zarr")
    assert refused.code == 2
    assert "exists and holds something else" in refused.fault
    assert call("store", back, small_store / "zarr.json", tmp_path / "x.zarr").code == 2
    assert call("store", there, tmp_path / "none.zarr", tmp_path / "x").fault.startswith(
        f"vaprompt: {tmp_path / 'none.zarr'}: there is no feature store"
    )


def test_the_splits_of_a_store_are_cut_out_compared_and_merged(small_store: Path, tmp_path: Path):
    store = FeatureStore.open(small_store)
    cut = [
        call("store", "subset", small_store, "--split", split, "--into", tmp_path / split, "--json").json
        for split in ("train", "validation")
    ]
    assert [found["videos"] for found in cut] == [store.videos("train"), store.videos("validation")]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(store.videos("test")) + "\n\n")
    rest = call("store", "subset", small_store, "--videos", f"@{names}", "--into", tmp_path / "test")
    assert rest.code == 0
    merged = call("store", "merge", tmp_path / "train", tmp_path / "validation", tmp_path / "test",
                  "--into", tmp_path / "all", "--json")  # fmt: skip
    assert merged.json["videos"] == store.videos()
    assert content(tmp_path / "all") == content(small_store)
    found = call("store", "diff", tmp_path / "train", small_store, "--json")
    assert found.code == 3
    assert found.json["videos"] == {"only_a": [], "only_b": sorted(store.videos("validation") + store.videos("test"))}
    told = call("store", "diff", tmp_path / "train", small_store)
    assert told.out.splitlines() == [f"video only in b: {video}" for video in found.json["videos"]["only_b"]]


def test_conflicts_and_mistakes_are_one_line(tmp_path: Path):
    one, two = filled(tmp_path / "1.zarr", {"a": "train"}), filled(tmp_path / "2.zarr", {"a": "train"}, frames=31)
    into = ("--into", tmp_path / "c.zarr")
    conflict = call("store", "merge", one.path, two.path, *into)
    assert conflict.code == 2
    assert "hold different content of 1 videos: a (audio, image, labels)" in conflict.fault
    assert call("store", "merge", one.path, two.path, *into, "--prefer", two.path).code == 0
    assert call("store", "diff", two.path, tmp_path / "c.zarr").code == 0
    told = call("store", "diff", one.path, two.path).out.splitlines()
    assert told == [
        "audio of a: counts, embedding",
        "image of a: counts, embedding, frame, time",
        "labels of a: counts, time, valid, value",
    ]
    for arguments, fault in (
        (("merge", one.path, *into), "one store cannot be merged"),
        (("merge", one.path, tmp_path / "x", *into), "there is no feature store"),
        (("subset", one.path, "--split", "dev", *into), "there is no split dev"),
        (("subset", one.path, "--videos", "b,c", *into), "has no video b, c"),
        (("subset", one.path, "--videos", f"@{tmp_path / 'no.txt'}", *into), "no.txt: cannot be read"),
        (("subset", one.path, "--videos", ",", *into), "names no video"),
        (("subset", one.path, *into), "exists and holds something else"),
        (("unpack", one.path / "zarr.json", tmp_path / "x"), "is no feature store"),
        (("import", one.path / "zarr.json", tmp_path / "x"), "is no HDF5 file"),
        (("import", one.path, tmp_path / "x"), "cannot be read (Is a directory)"),
        (("export", one.path, tmp_path / "nowhere" / "deep" / "x.h5" / "y.h5"), ""),
    ):
        outcome = call("store", *arguments)
        assert outcome.code == (2 if fault else 0), arguments
        assert not fault or fault in outcome.fault


def test_packed_bytes_are_told_and_json_is_alone_on_stdout(tmp_path: Path):
    store = filled(tmp_path / "s.zarr")
    outcome = call("store", "export", store.path, tmp_path / "s.h5", "--json")
    assert json.loads(outcome.out)["bytes"] == (tmp_path / "s.h5").stat().st_size
    assert outcome.err.startswith("exporting: ")
    pack(store.path, tmp_path / "s.zip")
    assert call("store", "subset", tmp_path / "s.zip", "--split", "train", "--into", tmp_path / "t").code == 0


WRITING = [
    ("subset", "STORE", "--into", "TARGET"),
    ("merge", "STORE", "OTHER", "--into", "TARGET"),
    ("pack", "STORE", "TARGET"),
    ("export", "STORE", "TARGET"),
    ("unpack", "PACKED", "TARGET"),
    ("import", "HDF5", "TARGET"),
]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a store in all its forms."""
    folder = tmp_path_factory.mktemp("forms")
    store = filled(folder / "s.zarr", {"a": "train"}).path
    filled(folder / "other.zarr", {"b": "train"})
    pack(store, folder / "s.zarr.zip")
    export(store, folder / "s.h5")
    names = {"STORE": "s.zarr", "OTHER": "other.zarr", "PACKED": "s.zarr.zip", "HDF5": "s.h5"}
    return {word: folder / name for word, name in names.items()}


@pytest.mark.parametrize("command", WRITING, ids=lambda command: command[0])
def test_what_is_written_can_be_named_by_a_file_url(command, forms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {**{word: path.as_uri() for word, path in forms.items()}, "TARGET": (tmp_path / "new one").as_uri()}
    done = call("store", *(words.get(word, word) for word in command))
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["new one"]


@pytest.mark.parametrize("command", [*WRITING, ("pull", "https://example.org/s.zarr", "TARGET")])
@pytest.mark.parametrize("url", ["s3://team/x.zarr", "https://user:hush@example.org/x.zarr?token=hush"])
def test_a_url_that_nothing_is_written_to_is_told_with_the_remedy(command, url, forms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {**{word: str(path) for word, path in forms.items()}, "TARGET": url}
    refused = call("store", *(words.get(word, word) for word in command))
    assert refused.code == 2
    assert "/x.zarr: is not on this machine; write it on this machine; `vaprompt store push`" in refused.fault
    assert "hush" not in refused.fault
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["unpack", "import"])
def test_a_file_elsewhere_is_to_be_copied_first(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = call("store", command, "s3://team/x.h5", "here")
    assert refused.code == 2
    assert "s3://team/x.h5: is not on this machine; copy the file here first" in refused.fault
