"""Jobs under leases: each is handed out to one writer, and nobody waits for what he holds himself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.extraction.forge import tiny_dataset
from tests.store.stores import DATASET
from vaprompt.datasets.base import Dataset
from vaprompt.extraction.claims import Claims
from vaprompt.extraction.plan import Examiner, Job, plan
from vaprompt.progress import SILENT
from vaprompt.store import FeatureStore, leases
from vaprompt.store.layout import STREAMS


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leases, "POLL", 0.01)
    monkeypatch.setattr("vaprompt.extraction.claims.POLL", 0.01)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Return two videos without any file, as no job is done here."""
    videos = tiny_dataset(tmp_path, videos=2).videos
    return replace(tiny_dataset(tmp_path), videos=tuple(replace(video, media=None) for video in videos))


@contextmanager
def claims(dataset: Dataset, path: Path) -> Iterator[Claims]:
    store = FeatureStore.create(path, dataset=DATASET)
    with store.writing() as mine, SILENT.task("extracting") as task:
        examiner = Examiner(dataset, store)
        yield Claims(plan(examiner), examiner, mine, task)


def make(job: Job | None, store: FeatureStore) -> None:
    assert job is not None
    for stream in STREAMS:
        with store.writer(stream, job.video.name, {}) as writer:
            writer.append(value=np.zeros(1))
            writer.publish({"split": job.video.split})


def test_the_largest_videos_come_first_and_alike_ones_in_order(dataset, tmp_path):
    sizes = {"v1": 5, "v2": 9, "v3": 5, "v4": 0}
    videos = []
    for name, size in sizes.items():
        media = tmp_path / f"{name}.mp4" if size else None
        if media is not None:
            media.write_bytes(bytes(size))
        videos.append(replace(dataset.videos[0], name=name, media=media))
    with claims(replace(dataset, videos=tuple(videos)), tmp_path / "s.zarr") as mine:
        assert [job.video.name for job in mine.todo.jobs] == ["v2", "v1", "v3", "v4"]
        (tmp_path / "v1.mp4").unlink()  # its reader will say so
        assert [job.video.name for job in plan(mine.examiner).jobs] == ["v2", "v3", "v1", "v4"]


def test_two_writers_get_different_videos_and_hear_of_each_others_end(dataset, tmp_path):
    with claims(dataset, tmp_path / "s.zarr") as mine, claims(dataset, tmp_path / "s.zarr") as other:
        my, others = iter(mine), iter(other)
        first, second = next(my), next(others)
        assert (first.video.name, second.video.name) == ("v1", "v2")
        assert next(my) is None
        assert next(others) is None
        make(first, mine.examiner.store)
        mine.finished(first)
        other.failed(second, "cannot be decoded")
        assert next(others, "end") == "end"
        assert other.elsewhere == ["v1"]
        assert next(my, "end") == "end"
        assert mine.failed_elsewhere == {"v2": "cannot be decoded"}
        assert mine.elsewhere == []


def test_who_goes_without_a_word_leaves_its_videos_to_the_others(dataset, tmp_path):
    with claims(dataset, tmp_path / "s.zarr") as mine:
        with claims(dataset, tmp_path / "s.zarr") as other:
            assert next(iter(other)).video.name == "v1"
            my = iter(mine)
            assert next(my).video.name == "v2"
        assert next(my).video.name == "v1"


def test_a_failure_from_before_is_tried_again(dataset, tmp_path):
    FeatureStore.create(tmp_path / "s.zarr", dataset=DATASET).record_failure("v1", "cannot be decoded")
    with claims(dataset, tmp_path / "s.zarr") as mine:
        assert [next(iter(mine)).video.name] == ["v1"]


def test_what_is_missing_is_looked_up_when_a_job_is_handed_out(dataset, tmp_path):
    with claims(dataset, tmp_path / "s.zarr") as mine:
        with mine.examiner.store.writer("image", "v1", {}) as writer:
            writer.append(value=np.zeros(1))
            writer.publish({"split": "test"})
        my = iter(mine)
        assert next(my).streams == ("audio", "labels")
        assert next(my).streams == STREAMS
