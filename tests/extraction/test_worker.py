"""One worker, in this process: it writes what the local engine writes, and says in one line what it lacks."""

import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.extraction.conftest import files_below
from vaprompt import __version__
from vaprompt.errors import (
    ClusterError,
    DatasetError,
    FingerprintError,
    MediaError,
    StoreError,
    TargetError,
    VapromptError,
)
from vaprompt.extraction.fingerprints import stream_fingerprints
from vaprompt.extraction.plan import Examiner, plan
from vaprompt.extraction.work import Work
from vaprompt.extraction.worker import Worker
from vaprompt.store import FeatureStore
from vaprompt.store.writing import GroupWriter


@pytest.fixture
def work(dataset, recipe, store, tmp_path) -> Work:
    """Return the work of filling a store that has only its prompts, as the process that hands it out begins it."""
    target = tmp_path / "s.zarr"
    shutil.copytree(store, target, copy_function=shutil.copy2)
    for stream in ("image", "audio", "labels"):
        for video in FeatureStore.open(store).videos():
            shutil.rmtree(target / stream / video)
    fingerprints = stream_fingerprints(recipe, dataset.faces)
    # What is sent to a node is a copy.
    return pickle.loads(pickle.dumps(Work(dataset, recipe, target, None, fingerprints, "cpu")))


@contextmanager
def at_work(work: Work) -> Iterator[Worker]:
    worker = Worker(work, __version__)
    worker.begin()
    try:
        yield worker
    finally:
        worker.end()


def jobs(work: Work):
    return plan(Examiner(work.dataset, FeatureStore.open(work.store))).jobs


def test_a_worker_fills_a_store_as_the_local_engine_does(work, store):
    with at_work(work) as worker, ThreadPoolExecutor(4) as calls:
        assert list(calls.map(worker.extract_video, jobs(work))) == [None] * len(work.dataset.videos)
        assert worker.summary()["items"]["images"] > 0
    assert files_below(work.store) == files_below(store)
    assert not (work.store / ".leases").exists()


def test_a_video_can_be_done_twice_and_by_two_at_once(work, store):
    todo = jobs(work)
    with at_work(work) as one, at_work(work) as other, ThreadPoolExecutor(4) as calls:
        # One after the other first: in one process, random weights would be drawn from one generator at once.
        for worker in (one, other):
            assert worker.extract_video(todo[0]) is None
        outcomes = [calls.submit(worker.extract_video, job) for job in todo[1:3] for worker in (one, other)]
        assert [outcome.result(timeout=60) for outcome in outcomes] == [None] * 4
        assert [other.extract_video(job) for job in todo[3:]] == [None] * len(todo[3:])
    assert files_below(work.store) == files_below(store)


def test_a_video_that_fails_is_told_with_its_reason(work, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(b"no video")
    video = replace(work.dataset.videos[0], media=tmp_path / "cut.mp4")
    broken = replace(work, dataset=replace(work.dataset, videos=(video, work.dataset.videos[-1])))
    todo = {job.video.name: job for job in jobs(broken)}
    with at_work(broken) as worker:
        assert "cut.mp4" in worker.extract_video(todo.pop(video.name))
        assert [worker.extract_video(job) for job in todo.values()] == [None]


def test_what_is_no_videos_fault_ends_all_that_is_in_hand(work, monkeypatch):
    def full(self, marker):
        raise TargetError(work.store, fault="no space left", remedy="make room")

    monkeypatch.setattr(GroupWriter, "publish", full)
    with at_work(work) as worker, ThreadPoolExecutor(4) as calls:
        for outcome in [calls.submit(worker.extract_video, job) for job in jobs(work)[:3]]:
            with pytest.raises(TargetError, match="no space left"):
                outcome.result(timeout=60)
        with pytest.raises(TargetError, match="no space left"):
            worker.extract_video(jobs(work)[0])


def refusal(work: Work, version: str = __version__) -> VapromptError:
    with pytest.raises(VapromptError) as error:
        Worker(work, version).begin()
    assert "\n" not in str(error.value)
    return error.value


def test_what_a_node_lacks_is_said_before_any_work(work, tmp_path):
    node = os.uname().nodename
    other = refusal(work, "0.0.1")
    assert isinstance(other, ClusterError)
    assert f"has vaprompt {__version__}, and 0.0.1 hands out the work" in str(other)
    unseen = refusal(replace(work, dataset=replace(work.dataset, root=tmp_path / "nowhere")))
    assert isinstance(unseen, DatasetError)
    assert f"is not there on {node}" in str(unseen)
    unseen = refusal(replace(work, store=tmp_path / "nowhere.zarr"))
    assert isinstance(unseen, StoreError)
    assert f"on {node}" in str(unseen)
    weights = {**work.fingerprints, "image": {**work.fingerprints["image"], "weights": "sha256:other"}}
    unlike = refusal(replace(work, fingerprints=weights))
    assert isinstance(unlike, FingerprintError)
    assert "weights: random:0 here, sha256:other asked for" in str(unlike)


@pytest.mark.parametrize(
    "error",
    [
        MediaError(Path("a.mp4"), fault="is cut", remedy="copy it", line=3),
        FingerprintError(None, fault="differs", remedy="choose"),
    ],
)
def test_an_error_comes_over_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
