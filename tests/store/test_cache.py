"""Copies of remote stores: nothing is fetched twice, and nobody is in anybody's way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.listening import Listening
from tests.servers import Front, web_server
from tests.store.stores import add, filled
from vaprompt.caching import cache_folder
from vaprompt.errors import StoreError, TargetError, UnreachableError
from vaprompt.files import make_folder
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.store.groups import content_digest, digests, fresh_index
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import UNFINISHED, write_attributes
from vaprompt.store.storage import Folder


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    made = filled(tmp_path / "s.zarr", {"a": "train", "b": "validation"})
    made.write_index()
    return made


@pytest.fixture
def web(store):
    with web_server(store.path) as front:
        yield front


def paths(front: Front) -> list[str]:
    return [path.lstrip("/") for _, path in front.asked]


def test_the_second_start_reads_nothing_but_the_index(cache, web, store):
    first = open_store(web.url)
    assert first.location == web.url
    assert first.info() == store.info()
    web.reset()
    again = open_store(web.url)
    assert paths(web) == [INDEX_FILE]
    assert again.image("a").embedding_ND.tobytes() == store.image("a").embedding_ND.tobytes()
    assert paths(web) == [INDEX_FILE]
    with pytest.raises(StoreError, match="can only be read"):
        _ = again.path
    assert list(cache.glob("stores/*.zarr"))


def test_a_path_is_opened_where_it_is(cache, store):
    for location in (store.path, str(store.path), f"file://{store.path}"):
        assert open_store(location).path == store.path
    assert not cache.exists()


def test_of_a_changed_store_only_what_changed_is_fetched(cache, web, store):
    before = open_store(web.url)
    add(store, "c", "test")
    write_attributes(store.path / "labels" / "a", {**store.marker("labels", "a"), "split": "test"})
    (store.path / INDEX_FILE).unlink()
    store.write_index()
    web.reset()
    after = open_store(web.url)
    assert after.info() == FeatureStore.open(store.path).info()
    assert not [path for path in paths(web) if path.startswith(("image/a/", "image/b/", "audio/a/"))]
    assert before.videos() == ["a", "b"]  # whoever reads the older copy goes on with it
    kept = "image/a/embedding/c/0/0"
    assert len({(copy / kept).stat().st_ino for copy in cache.glob("stores/*.zarr")}) == 1


def test_the_same_store_at_another_place_is_not_fetched_again(cache, web, store, tmp_path):
    open_store(web.url)
    shutil.copytree(store.path, tmp_path / "mirror")
    with web_server(tmp_path / "mirror") as mirror:
        open_store(mirror.url)
        assert paths(mirror) == [INDEX_FILE]


def test_a_server_that_does_not_answer_is_made_up_for_by_the_copy_and_said(cache, web, quick_retries):
    web.fault = lambda method, path: 500
    with pytest.raises(UnreachableError):
        open_store(web.url)
    web.reset()
    open_store(web.url)
    web.fault = lambda method, path: 500
    heard = Listening()
    assert open_store(web.url, heard).videos() == ["a", "b"]
    assert "using the copy that was fetched before" in heard.said[0]
    web.fault = lambda method, path: 403  # who may not read it any more shall not
    with pytest.raises(StoreError, match="no rights"):
        open_store(web.url)


def test_what_was_removed_from_a_copy_by_hand_is_fetched_again(cache, web):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    shutil.rmtree(copy / "image" / "a")
    web.reset()
    assert len(open_store(web.url).image("a").frame_N) == 30
    assert not [path for path in paths(web) if path.startswith("image/b/")]


def test_a_marker_that_was_removed_from_a_copy_is_fetched_again(cache, web):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    (copy / "image" / "a" / "zarr.json").unlink()
    web.reset()
    assert len(open_store(web.url).image("a").frame_N) == 30
    assert not [path for path in paths(web) if path.startswith("image/b/")]


@pytest.mark.parametrize("group", ["", "image"])
@pytest.mark.parametrize("content", [None, b"{"])
def test_damaged_attributes_of_a_copys_root_or_stream_are_fetched_again(cache, web, store, group, content):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    (copy / group / "zarr.json").unlink()
    if content is not None:
        (copy / group / "zarr.json").write_bytes(content)
    web.reset()
    assert open_store(web.url).info() == store.info()
    assert not [path for path in paths(web) if "/a/" in path]


@pytest.mark.parametrize("fault", ["changed", "cut", "missing", "marker"])
def test_what_is_damaged_in_a_copy_is_told_with_a_remedy_that_heals_it(cache, web, store, fault):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    hurt = copy / "image" / "a" / ("zarr.json" if fault == "marker" else "embedding/c/0/0")
    body = hurt.read_bytes()
    hurt.unlink()
    if fault != "missing":
        hurt.write_bytes(body[:9] if fault == "cut" else bytes([body[0] ^ 1]) + body[1:])
    with pytest.raises(StoreError, match=r"; delete .*/image/a: the same command fetches it again$") as caught:
        open_store(web.url).image("a")
    assert str(caught.value).startswith(f"{hurt}: ")
    shutil.rmtree(caught.value.remedy.removeprefix("delete ").partition(": ")[0])
    web.reset()
    assert open_store(web.url).image("a").embedding_ND.tobytes() == store.image("a").embedding_ND.tobytes()
    assert not [path for path in paths(web) if path.startswith(("image/b/", "audio/"))]


@pytest.mark.parametrize("fault", ["changed", pytest.param("missing", marks=pytest.mark.slow)])
def test_what_is_damaged_in_another_copy_is_fetched_and_not_linked(cache, web, store, fault):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    chunk = copy / "image" / "a" / "embedding" / "c" / "0" / "0"
    body = bytearray(chunk.read_bytes())
    body[3] ^= 1
    chunk.unlink()
    if fault == "changed":
        chunk.write_bytes(body)
    add(store, "c")
    store.write_index()
    web.reset()
    after = open_store(web.url)
    assert after.image("a").embedding_ND.tobytes() == store.image("a").embedding_ND.tobytes()
    assert [path for path in paths(web) if "/a/" in path or "/b/" in path] == ["image/a/embedding/c/0/0"]


def test_a_copy_is_named_after_what_is_in_it_though_the_store_changes_meanwhile(cache, web, store, monkeypatch):
    def late(folder: Path) -> None:
        add(store, "a", seed=99)
        store.write_index()
        make_folder(folder)

    monkeypatch.setattr("vaprompt.store.cache.make_folder", late)
    with pytest.raises(StoreError, match="the store is half copied, or being changed"):
        open_store(web.url)
    monkeypatch.undo()
    monkeypatch.setenv("VAPROMPT_CACHE", str(cache))
    open_store(web.url)
    whole = [copy for copy in cache.glob("stores/*.zarr") if not (copy / UNFINISHED).exists()]
    assert [copy.stem for copy in whole] == [content_digest(digests(fresh_index(Folder(store.path)), ""))]


def test_a_copy_is_read_though_nothing_can_be_noted_in_the_cache(cache, web):
    open_store(web.url)
    (record,) = cache.glob("stores/*.json")
    record.unlink()
    record.mkdir()
    assert open_store(web.url).videos() == ["a", "b"]


def test_a_cache_that_cannot_be_written_is_one_line(cache, web):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    shutil.rmtree(copy)
    copy.with_suffix(".lock").unlink()
    copy.with_suffix(".lock").mkdir()
    with pytest.raises(TargetError, match=r"\.lock: cannot be written"):
        open_store(web.url)


def test_two_processes_fill_the_cache_at_once(cache, web, store):
    web.delay = 0.01
    program = (
        "import sys; from vaprompt.store.cache import open_store; "
        "print(len(open_store(sys.argv[1]).image('b').frame_N))"
    )
    environment = {**os.environ, "VAPROMPT_CACHE": str(cache)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, web.url],
            env=environment,
            cwd=Path(__file__).parents[2],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60) for process in both] == [("30\n", "")] * 2
    chunks = [path for path in paths(web) if "/c/" in path]
    assert sorted(chunks) == sorted(set(chunks))


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VAPROMPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vaprompt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "vaprompt"
