"""Several who push to one URL at the same time: whoever comes last, all that was pushed is in the index."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.servers import Front
from tests.store.stores import DATASET
from tests.store.test_transfer import add
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.pull import pull
from vaprompt.store.push import push
from vaprompt.store.remote import PUSH_NOTE, Remote


@pytest.fixture
def url() -> str:
    return f"s3://team/{uuid.uuid4().hex}/s.zarr"


def part(path: Path, *videos: str) -> Path:
    store = FeatureStore.create(path, dataset=DATASET)
    for video in videos:
        add(store, video)
    return path


def once_at(front: Front, key: str, action: Callable[[], object]) -> None:
    """Do something before the first request to write `key` is answered."""
    begun = threading.Event()

    def fault(method: str, path: str) -> None:
        if method == "PUT" and key in path and not begun.is_set():
            begun.set()
            action()

    front.fault = fault


def require_all(url: str, *videos: str) -> None:
    found = Remote(url)
    assert found.index() == Remote(url).survey()
    assert FeatureStore.open(url).videos() == sorted(videos)
    assert found.note() is None


@pytest.mark.parametrize("key", [PUSH_NOTE, "/image/a/embedding/c/", INDEX_FILE])
@pytest.mark.parametrize("there", [(), pytest.param(("z",), marks=pytest.mark.slow)])
def test_a_push_that_comes_and_goes_during_another_is_not_lost(key, there, s3, url, tmp_path, monkeypatch):
    monkeypatch.setattr("vaprompt.store.push.SETTLED", 0.1)
    if there:
        push(part(tmp_path / "before.zarr", *there), url)
    ours, theirs = part(tmp_path / "ours.zarr", "a", "b"), part(tmp_path / "theirs.zarr", "c", "d")
    once_at(s3, key, lambda: push(theirs, url))
    push(ours, url)
    require_all(url, "a", "b", "c", "d", *there)


@pytest.mark.slow
def test_an_index_that_is_overwritten_at_the_same_moment_is_written_again(s3, url, tmp_path, monkeypatch):
    monkeypatch.setattr("vaprompt.store.push.SETTLED", 1.0)
    first, second = part(tmp_path / "first.zarr", "a"), part(tmp_path / "second.zarr", "b")
    second_is_about_to, first_has = threading.Event(), threading.Event()

    def fault(method: str, path: str) -> None:
        if method != "PUT":
            return
        if "/image/a/embedding/c/" in path:  # until the second push has looked, and is just writing its index
            assert second_is_about_to.wait(30)
        elif INDEX_FILE in path and not second_is_about_to.is_set():
            second_is_about_to.set()
            assert first_has.wait(30)
        elif INDEX_FILE in path:
            threading.Timer(0.2, first_has.set).start()

    s3.fault = fault
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(push, first, url)
        while not any("/image/a/embedding/c/" in path for _, path in list(s3.asked)):
            threading.Event().wait(0.01)
        other = pool.submit(push, second, url)
        one.result(60)
        other.result(60)
    require_all(url, "a", "b")


@pytest.mark.slow
@pytest.mark.parametrize("there", [(), ("z",)])
def test_an_index_that_is_long_on_its_way_replaces_none_that_came_meanwhile(there, s3, url, tmp_path, monkeypatch):
    """Also of one that knows already that it is not alone, and so looks no more for the others' notes."""
    monkeypatch.setattr("vaprompt.store.push.SETTLED", 0.1)
    if there:
        push(part(tmp_path / "before.zarr", *there), url)
    ours, second, third = (part(tmp_path / f"{video}.zarr", video) for video in "abc")

    def meanwhile() -> None:
        push(second, url)
        once_at(s3, INDEX_FILE, lambda: push(third, url))

    once_at(s3, "/image/a/embedding/c/", meanwhile)
    push(ours, url)
    require_all(url, "a", "b", "c", *there)


@pytest.mark.slow
@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_server_that_knows_no_conditions_is_pushed_to_without(header, s3, url, tmp_path):
    if header == "If-Match":
        push(part(tmp_path / "before.zarr", "a"), url)
    s3.unknown = header
    push(part(tmp_path / "ours.zarr", "b"), url)
    assert [path for method, path in s3.asked if method == "PUT" and INDEX_FILE in path][1:]
    require_all(url, "b", *(("a",) if header == "If-Match" else ()))


def test_the_note_of_another_push_is_left_to_it(s3, url, tmp_path, monkeypatch):
    monkeypatch.setattr("vaprompt.store.push.SETTLED", 0.1)
    ours, theirs = part(tmp_path / "ours.zarr", "a"), part(tmp_path / "theirs.zarr", "c")

    def begins_and_dies() -> None:
        s3.fault = lambda method, path: 403 if method == "PUT" and "/image/c/embedding/c/" in path else None
        with pytest.raises(StoreError, match="no rights"):
            push(theirs, url)

    once_at(s3, "/image/a/embedding/c/", begins_and_dies)
    push(ours, url)
    assert FeatureStore.open(url).videos() == ["a"]
    assert Remote(url).note() is not None
    s3.reset()
    push(theirs, url)
    require_all(url, "a", "c")


def named(path: Path, name: str) -> Path:
    """Return a store with nothing but a prompt under a name, as each file is a request."""
    text = {"schema": 1, "model": name}
    store = FeatureStore.create(path, dataset=DATASET, recipe={}, stream=name, fingerprints={"text": text})
    store.write_text({"calm": np.ones(4, np.float32)}, text)
    return path


def require_named(location: Path | str, *names: str) -> None:
    for name in names:
        assert set(FeatureStore.open(location, name).text()) == {"calm"}


@pytest.mark.slow
def test_a_stream_under_a_name_stays_whoever_pushes(s3, url, tmp_path):
    push(named(tmp_path / "1.zarr", "b32"), url)
    push(named(tmp_path / "2.zarr", "l14"), url)
    require_named(url, "b32", "l14")
    assert push(tmp_path / "2.zarr", url).groups == 0


def test_a_stream_under_a_name_stays_whatever_is_pulled(tmp_path):
    source, target = named(tmp_path / "1.zarr", "b32"), named(tmp_path / "2.zarr", "l14")
    pull(source, target)
    require_named(target, "b32", "l14")
    assert pull(source, target).groups == 0


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [True, False])
def test_streams_under_names_that_are_pushed_at_once_are_all_there(conditional, s3, url, tmp_path):
    one, two = named(tmp_path / "1.zarr", "b32"), named(tmp_path / "2.zarr", "l14")
    if not conditional:
        s3.unknown = "If-None-Match"
    once_at(s3, "/s.zarr/zarr.json", lambda: push(one, url))
    push(two, url)
    s3.fault = lambda method, path: None
    push(one, url)
    require_named(url, "b32", "l14")
