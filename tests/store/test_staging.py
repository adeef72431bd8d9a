"""Stores that are written behind a URL, by way of a folder in the cache: whatever is cut short goes on."""

import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.servers import Front
from tests.store.stores import DATASET
from tests.store.test_transfer import add, content
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.cache import written_at
from vaprompt.store.pull import pull
from vaprompt.store.push import push

TEXT = {"schema": 1}


@pytest.fixture
def url() -> str:
    return f"s3://team/{uuid.uuid4().hex}/s.zarr"


def make(url: str, seed: int = 0, prompts: tuple[str, ...] = ("happy",)) -> list[str]:
    """Write what is not there as it is to be, as an extraction does; return which videos and prompts it made."""
    made: list[str] = []
    with written_at(url) as folder:
        store = FeatureStore.create(folder, dataset=DATASET, recipe={"prompts": list(prompts)})
        for video in ("a", "b"):
            wanted = seed if video == "a" else 0
            if not store.has("image", video) or store.marker("image", video)["notes"] != [f"seed {wanted}"]:
                add(store, video, seed=wanted)
                store.mark("image", video, notes=[f"seed {wanted}"])
                made.append(video)
        new = [prompt for prompt in prompts if prompt not in store.text()]
        if new:
            store.write_text({prompt: np.ones(4, np.float32) for prompt in new}, TEXT)
        store.write_index()
    return made + new


def cut_at(front: Front, key: str) -> None:
    front.fault = lambda method, path: 403 if method == "PUT" and key in path else None


@pytest.mark.parametrize(
    "key",
    ["/image/a/zarr.json", *(pytest.param(key, marks=pytest.mark.slow) for key in ("/text/zarr.json", "/.index.json"))],
)
def test_what_was_made_again_and_not_pushed_is_neither_lost_nor_in_the_way(key, s3, cache, url, tmp_path):
    assert make(url) == ["a", "b", "happy"]
    cut_at(s3, key)
    with pytest.raises(StoreError, match=r"no rights .* nothing is lost"):
        make(url, seed=99, prompts=("happy", "sad"))
    s3.reset()
    assert make(url, seed=99, prompts=("happy", "sad")) == []
    (staged,) = cache.glob("staging/*.zarr")
    pull(url, tmp_path / "p.zarr")
    assert content(tmp_path / "p.zarr") == content(staged)
    assert FeatureStore.open(url).marker("image", "a")["notes"] == ["seed 99"]
    assert set(FeatureStore.open(url).text()) == {"happy", "sad"}
    assert FeatureStore.open(url).storage.note() is None


@pytest.mark.slow
def test_the_same_goes_for_one_that_is_killed(s3, cache, url):
    make(url)
    reached, released = threading.Event(), threading.Event()

    def fault(method: str, path: str) -> None:
        if method == "PUT" and "/image/a/zarr.json" in path:
            reached.set()
            released.wait(60)

    s3.fault = fault
    program = "import sys; from tests.store.test_staging import make; make(sys.argv[1], 99, ('happy', 'sad'))"
    process = subprocess.Popen([sys.executable, "-c", program, url], cwd=Path(__file__).parents[2])
    assert reached.wait(60)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    s3.reset()
    released.set()
    assert make(url, seed=99, prompts=("happy", "sad")) == []
    assert FeatureStore.open(url).marker("image", "a")["notes"] == ["seed 99"]
    assert set(FeatureStore.open(url).text()) == {"happy", "sad"}


def test_what_another_pushed_since_counts(s3, cache, url, tmp_path):
    make(url)
    pull(url, tmp_path / "other.zarr")
    other = FeatureStore.open(tmp_path / "other.zarr")
    add(other, "a", seed=7)
    other.mark("image", "a", notes=["seed 7"])
    add(other, "c")
    push(other.path, url)
    assert make(url, seed=7) == []
    assert FeatureStore.open(url).videos() == ["a", "b", "c"]
    assert FeatureStore.open(url).marker("image", "a") == other.marker("image", "a")


def test_a_push_that_was_cut_short_goes_on_where_it_had_replaced_what_the_index_lists(s3, cache, url, tmp_path):
    make(url)
    pull(url, tmp_path / "p.zarr")
    mine = FeatureStore.open(tmp_path / "p.zarr")
    mine.write_text({"sad": np.ones(4, np.float32)}, TEXT)
    cut_at(s3, "/.index.json")
    with pytest.raises(StoreError, match="no rights"):
        push(mine.path, url)
    s3.reset()
    push(mine.path, url)
    assert set(FeatureStore.open(url).text()) == {"happy", "sad"}
