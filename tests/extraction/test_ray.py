"""A real Ray cluster of several nodes on this machine: it writes what the local engine writes, come what may."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.extraction.conftest import TINY, files_below
from tests.extraction.mortal import DEADLY, Mortal
from tests.nodes import behead, kill
from vaprompt import heads
from vaprompt.cluster import Cluster
from vaprompt.errors import ClusterError
from vaprompt.extraction import ray_engine
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.stages import log_file
from vaprompt.progress import Silent
from vaprompt.store import FeatureStore

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80 * 2**20}
"""A GPU by name: what is asked of Ray is the same, and the networks run on the processor."""


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster as Nodes

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    nodes = Nodes(initialize_head=True, head_node_args=head)
    try:
        yield nodes
    finally:
        nodes.shutdown()


class Listening(Silent):
    """Keeps what is said, and does what a test wants done: as it is told, in the thread of the extraction.

    Ray begins no nodes in any other.
    """

    def __init__(self, at_first: Callable[[], object] = lambda: None, when_said: Callable[[], object] = lambda: None):
        self.said: list[str] = []
        self._at_first: list[Callable[[], object]] = [at_first]
        self._when_said: list[Callable[[], object]] = [when_said]

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Self]:
        yield self

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        if amount and self._at_first:
            self._at_first.pop()()

    def say(self, text: str) -> None:
        self.said.append(text)
        if self._when_said:
            self._when_said.pop()()


def logged(store: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_node_that_is_killed_costs_what_it_had_in_hand_and_nothing_else(cluster, dataset, recipe, store, tmp_path):
    doomed = cluster.add_node(**NODE)
    target, published = tmp_path / "s.zarr", []

    def die() -> None:
        published.extend(file.parent.name for file in target.glob("labels/*/zarr.json"))
        kill(cluster, doomed)

    watcher = Listening(at_first=die, when_said=lambda: cluster.add_node(**NODE))
    report = extract(dataset, recipe, target, cluster=Cluster(cluster.address), progress=watcher)
    assert published
    assert report.done == [video.name for video in dataset.videos]
    assert report.failed == {}
    assert files_below(target) == files_below(store)
    assert not (target / ".leases").exists()
    (lost,) = logged(target, "lost")
    assert lost["outage"]  # so that nothing is held against the videos
    assert [line for line in watcher.said if " is gone; what it had in hand goes to others: " in line]
    workers = logged(target, "worker")
    assert len(workers) == 2
    assert {(worker["devices"][0], worker["hands"]) for worker in workers} == {("cpu", 4)}
    done = [line["video"] for line in logged(target, "video")]
    again = {video for video in done if done.count(video) > 1}
    assert again <= set(lost["videos"])
    assert not again & set(published)


def test_a_video_that_workers_die_of_fails_and_takes_no_other_with_it(
    cluster, dataset, recipe, store, tmp_path, monkeypatch
):
    target, deadly = tmp_path / "s.zarr", dataset.videos[1].name
    monkeypatch.setenv(DEADLY, deadly)
    monkeypatch.setattr(ray_engine, "Actor", Mortal)
    cluster.add_node(**NODE)
    report = extract(dataset, recipe, target, cluster=Cluster(cluster.address))
    assert report.failed == {deadly: "3 workers died over it, as when memory does not suffice"}
    assert report.done == [video.name for video in dataset.videos if video.name != deadly]
    first, *others = logged(target, "lost")
    assert not first["outage"]
    assert deadly in first["videos"]
    assert len(first["videos"]) > 1
    assert [(lost["outage"], lost["videos"]) for lost in others] == [(False, [deadly])] * 3
    assert extract(dataset, recipe, target).done == [deadly]
    assert files_below(target) == files_below(store)


def test_workers_can_share_a_gpu_and_a_video_that_fails_is_recorded(cluster, own, store, tmp_path):
    cluster.add_node(**NODE)
    (broken, *_), good = own.videos, own.videos[-1]
    broken.media.write_bytes(b"no video")
    target = tmp_path / "s.zarr"
    changes = [part for change in TINY for part in ("--set", change)]
    options = ["--engine", "ray", "--address", "auto", "--worker-gpus", "0.5", "--worker-cpus", "1", "--json"]
    command = [sys.executable, "-m", "vaprompt", "extract", str(own.root), "--store", str(target), *changes, *options]
    # A token that lies about, as `--address local` leaves one, is not what this cluster wants.
    left = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    process = subprocess.run(command, check=False, capture_output=True, text=True, env=left)
    assert process.returncode == 3, process.stderr
    assert "Traceback" not in process.stderr
    result = json.loads(process.stdout)  # nothing of Ray's is among it
    shares = {video.name for video in own.videos if video.media == broken.media}
    assert result["failed"].keys() == shares
    assert FeatureStore.open(target).failed().keys() == shares
    assert len(logged(target, "worker")) == 2
    ours, theirs = FeatureStore.open(target), FeatureStore.open(store)
    assert ours.videos() == sorted(result["done"])
    assert good.name in result["done"]
    for video in ours.videos():
        for stream in ("image", "audio", "labels"):
            assert ours.marker(stream, video)["files"] == theirs.marker(stream, video)["files"]


def test_nodes_that_come_late_are_waited_for(cluster, dataset, recipe, store, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "PATIENCE", 0.5)
    watcher = Listening(when_said=lambda: cluster.add_node(**NODE))
    report = extract(dataset, recipe, tmp_path / "s.zarr", cluster=Cluster(cluster.address), progress=watcher)
    assert report.done == [video.name for video in dataset.videos]
    assert watcher.said == ["waiting for a node with room for a worker of 0 GPUs and 1 cores; see: ray status"]
    assert [worker["gpus"] for worker in logged(tmp_path / "s.zarr", "worker")] == [1]
    assert files_below(tmp_path / "s.zarr") == files_below(store)


def test_an_extraction_whose_head_dies_says_so_and_goes_on_elsewhere(
    cluster, dataset, recipe, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(heads, "GONE", 1.0)
    monkeypatch.setattr(ray_engine, "SURVEY", 0.2)
    target, node = tmp_path / "s.zarr", cluster.add_node(**NODE)

    def die() -> None:
        kill(cluster, node)
        behead(cluster)

    with pytest.raises(ClusterError, match=r"head at .* answers no more; run the same command again"):
        extract(dataset, recipe, target, cluster=Cluster(cluster.address), progress=Listening(at_first=die))
    assert not (target / ".leases").exists()
    extract(dataset, recipe, target)
    assert files_below(target) == files_below(store)
