"""A sweep on a real Ray cluster on this machine leaves the bytes of one without, whatever becomes of its nodes."""

from pathlib import Path

import pytest

from tests.nodes import behead, kill
from tests.sweeps.conftest import GRID, contents, described
from tests.sweeps.test_search import TELLING
from vaprompt import heads
from vaprompt.cluster import Cluster
from vaprompt.errors import ClusterError
from vaprompt.sweeps import ray_pool
from vaprompt.sweeps.board import Board, Nobody
from vaprompt.sweeps.ray_pool import Worker
from vaprompt.sweeps.sweep import run_sweep
from vaprompt.sweeps.work import Job, Work

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_variant(store, swept, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster as Nodes

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    nodes = Nodes(initialize_head=True, head_node_args=head)
    said = []

    class Listening(Nobody):
        def say(self, text):
            said.append(text)
            nodes.add_node(**NODE)  # in this thread: Ray begins none in any other

    try:
        doomed = [nodes.add_node(**NODE)]

        def begin(board, variant):
            as_ever(board, variant)
            if list(tmp_path.glob("runs/*/run.json")) and doomed:
                kill(nodes, doomed.pop())

        as_ever = Board.begin
        monkeypatch.setattr(Board, "begin", begin)
        result = run_sweep(
            store,
            described(tmp_path, GRID),
            tmp_path / "runs",
            device="cpu",
            cluster=Cluster(nodes.address),
            watcher=Listening(),
        )
    finally:
        nodes.shutdown()
    assert [one.reason for one in result.found] == [None] * 4
    assert len([line for line in said if "its worker is gone" in line]) == 1
    for ours, theirs in zip(result.found, swept.found, strict=True):
        assert contents(ours.variant.run) == contents(theirs.variant.run)


@pytest.mark.slow
def test_a_search_goes_the_same_way_on_a_cluster(store, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster as Nodes

    alone = run_sweep(store, described(tmp_path / "a", TELLING), tmp_path / "a" / "runs", device="cpu")
    nodes = Nodes(initialize_head=True, head_node_args={**NODE, "num_cpus": 2, "include_dashboard": False})
    monkeypatch.setattr(ray_pool, "SURVEY", 0.0)  # nodes are looked up whenever they are counted
    try:
        cluster = Cluster(nodes.address, cpus=1)
        result = run_sweep(store, described(tmp_path, TELLING), tmp_path / "runs", device="cpu", cluster=cluster)
    finally:
        nodes.shutdown()
    assert result.workers == 2
    ours, theirs = ({one.variant.label: one for one in found} for found in (result.found, alone.found))
    assert {label: one.state for label, one in ours.items()} == {label: one.state for label, one in theirs.items()}
    assert [one.reason for one in result.found] == [None] * 5
    for label, one in ours.items():
        if one.state == "done":
            assert contents(one.variant.run) == contents(theirs[label].variant.run)


@pytest.mark.slow
def test_a_sweep_whose_head_dies_says_so_and_goes_on_elsewhere(store, swept, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.setattr(heads, "GONE", 1.0)
    monkeypatch.setattr(ray_pool, "SURVEY", 0.2)
    sweep = described(tmp_path, GRID)
    nodes = Nodes(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})

    def begin(board, variant):
        as_ever(board, variant)
        if list(tmp_path.glob("runs/*/run.json")):
            monkeypatch.setattr(Board, "begin", as_ever)
            behead(nodes)

    as_ever = Board.begin
    monkeypatch.setattr(Board, "begin", begin)
    try:
        with pytest.raises(ClusterError, match=r"head at .* answers no more; run the same command again"):
            run_sweep(store, sweep, tmp_path / "runs", device="cpu", cluster=Cluster(nodes.address))
    finally:
        nodes.shutdown()
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", workers=1)
    assert [one.reason for one in result.found] == [None] * 4
    for ours, theirs in zip(result.found, swept.found, strict=True):
        assert contents(ours.variant.run) == contents(theirs.variant.run)


def test_a_node_that_cannot_see_the_runs_or_has_another_version_says_so(store, tmp_path, monkeypatch):
    monkeypatch.chdir(Path.cwd())  # where the tests are to be again: a worker goes where its paths are seen from
    variant = described(tmp_path, GRID).variants[0]
    work = Work(str(store), "cpu")
    (lost,) = Worker(work, _version(), str(tmp_path)).carry_out(Job((variant,)))
    assert isinstance(lost.error, ClusterError)
    assert "every node finds them by the same path" in str(lost.error)
    (other,) = Worker(work, "0.0.0", str(tmp_path)).carry_out(Job((variant,)))
    assert "install the same version on every node" in str(other.error)


def _version():
    from vaprompt import __version__

    return __version__
