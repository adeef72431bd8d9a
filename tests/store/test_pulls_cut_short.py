"""A pull that is stopped leaves nothing that passes for a whole store, and nobody pulls into what another writes."""

import shutil

import pytest

from tests.cli.calling import call
from tests.servers import Front, web_server
from tests.store.stores import DATASET
from tests.store.test_transfer import add, content, kill_at
from vaprompt.errors import StoreError, TargetError
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.store.layout import UNFINISHED
from vaprompt.store.leases import video_key
from vaprompt.store.pull import pull
from vaprompt.store.verification import verify


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    made = FeatureStore.create(tmp_path / "s.zarr", dataset=DATASET)
    for video in ("a", "b", "c"):
        add(made, video)
    made.write_index()
    return made


@pytest.fixture
def web(store):
    with web_server(store.path) as front:
        yield front


def require_unfinished(folder) -> None:
    for refused in (FeatureStore.open, FeatureStore.create, verify):
        with pytest.raises(StoreError, match="not finished; run the command again that copied it"):
            refused(folder)
    told = call("store", "info", folder)
    assert told.code == 2
    assert "run the command again that copied it" in told.fault


def request_of(front: Front, key: str) -> int:
    """Return which request of those that were made last was the first for a file."""
    return next(number for number, (_, path) in enumerate(front.asked, 1) if key in path)


@pytest.mark.parametrize(
    "key",
    [
        "labels/c/zarr.json",
        *(pytest.param(key, marks=pytest.mark.slow) for key in ("image/zarr.json", "/embedding/")),
    ],
)
def test_a_killed_pull_leaves_no_store_with_fewer_videos(key, web, store, tmp_path):
    pull(web.url, tmp_path / "whole.zarr")
    number = request_of(web, key)
    target = tmp_path / "p.zarr"
    kill_at(("store", "pull", web.url, target), web, number)
    require_unfinished(target)
    pull(web.url, target)
    assert content(target) == content(store.path)
    assert FeatureStore.open(target).videos() == ["a", "b", "c"]
    assert not (target / UNFINISHED).exists()


def test_a_killed_update_leaves_no_mixture_that_passes_for_a_store(web, store, tmp_path):
    target = tmp_path / "p.zarr"
    pull(web.url, target)
    shutil.copytree(target, tmp_path / "q.zarr")
    for video in ("a", "b", "c"):
        add(store, video, seed=9)
    store.write_index()
    web.reset()
    pull(web.url, tmp_path / "q.zarr")
    number = request_of(web, "/embedding/c/")
    kill_at(("store", "pull", web.url, target), web, number)
    require_unfinished(target)
    pull(web.url, target)
    assert content(target) == content(store.path)


def test_a_pull_that_fails_is_as_one_that_is_killed(web, store, tmp_path):
    chunk = store.path / "image" / "b" / "embedding" / "c" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(b"?" * len(whole))
    target = tmp_path / "p.zarr"
    with pytest.raises(StoreError, match="is not what was written"):
        pull(web.url, target)
    require_unfinished(target)
    chunk.write_bytes(whole)
    pull(web.url, target)
    assert FeatureStore.open(target).videos() == ["a", "b", "c"]


def test_a_refused_pull_leaves_a_whole_store_as_it_was(web, tmp_path):
    other = FeatureStore.create(tmp_path / "p.zarr", dataset=DATASET)
    with other.writer("image", "z", {"schema": 2}) as writer:
        writer.publish({"split": "train", "notes": []})
    with pytest.raises(StoreError, match="schema"):
        pull(web.url, other.path)
    assert FeatureStore.open(other.path).done("image") == {"z"}


def test_nothing_is_pulled_into_what_another_writes(web, store, tmp_path):
    target = tmp_path / "p.zarr"
    pull(web.url, target)
    with FeatureStore.open(target).writing() as leases, leases.holding(video_key("b")):
        add(store, "d")
        store.write_index()
        with pytest.raises(TargetError, match=r"another process is writing into it \(process \d+ on"):
            pull(web.url, target)
        assert FeatureStore.open(target).videos() == ["a", "b", "c"]
    pull(web.url, target)
    assert FeatureStore.open(target).videos() == ["a", "b", "c", "d"]


def test_a_copy_in_the_cache_that_was_not_finished_is_finished(cache, web, store):
    open_store(web.url)
    (copy,) = cache.glob("stores/*.zarr")
    (copy / UNFINISHED).touch()
    assert open_store(web.url).videos() == ["a", "b", "c"]
    assert not (copy / UNFINISHED).exists()
