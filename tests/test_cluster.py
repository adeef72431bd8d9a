"""How many workers fit a cluster, and what is said where there is none."""

import importlib.util
import shutil
import socket
from pathlib import Path

import pytest
import yaml

from vaprompt import cluster
from vaprompt.cluster import (
    Cluster,
    Size,
    connected,
    require_ray,
    size_of_worker,
    tokens_on_this_machine,
    workers_that_fit,
)
from vaprompt.errors import ClusterError

GPU_BOXES = [{"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}]
PLAIN = [{"CPU": 0.0}, {"CPU": 8.0, "memory": 1e9}, {"CPU": 20.0}]


@pytest.mark.parametrize(
    ("nodes", "wanted", "size", "workers"),
    [
        (GPU_BOXES, Cluster(), Size(1, 4), 12),
        (GPU_BOXES, Cluster(gpus=0.5), Size(0.5, 2), 24),
        (GPU_BOXES, Cluster(gpus=4), Size(4, 16), 3),
        (GPU_BOXES, Cluster(gpus=0), Size(0, 4), 21),
        (GPU_BOXES, Cluster(cpus=32), Size(1, 32), 2),
        (PLAIN, Cluster(), Size(0, 8), 3),
        (PLAIN, Cluster(cpus=4), Size(0, 4), 7),
        (PLAIN, Cluster(gpus=1), Size(1, 1), 0),
        ([], Cluster(), Size(0, 1), 0),
    ],
)
def test_workers_fill_the_nodes(nodes, wanted, size, workers):
    assert size_of_worker(nodes, wanted) == size
    assert workers_that_fit(nodes, size) == workers


def test_without_ray_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None if name == "ray" else importlib.util.find_spec(name))
    with pytest.raises(ClusterError, match=r"needs the package ray; install it with: pip install 'vaprompt\[ray\]'"):
        require_ray()


@pytest.mark.parametrize("address", ["nonsense", "host:", ":1", "host:port", "host:70000", "ray://host:1", ""])
def test_what_is_no_address_is_said(address):
    with pytest.raises(ClusterError, match="is not auto, local or HOST:PORT"), connected(address):
        pass


@pytest.mark.parametrize(
    ("address", "mode"),
    [("auto", None), ("10.0.0.1:6379", "token"), ("10.0.0.2:6379", "disabled"), ("10.0.0.3:6379", None)],
)
def test_whether_a_cluster_here_wants_a_token_is_told_by_its_nodes(tmp_path, monkeypatch, address, mode):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for number, (program, host, said) in enumerate(
        [
            ("/lib/ray/raylet", 1, ["RAY_AUTH_MODE=token"]),
            ("/lib/ray/raylet", 2, ["RAY_AUTH_MODE_NOT=token"]),
            ("/lib/ray/gcs_server", 3, ["RAY_AUTH_MODE=token"]),
        ]
    ):
        (process := tmp_path / str(number)).mkdir()
        (process / "cmdline").write_text("\0".join([program, "--node", f"--gcs-address=10.0.0.{host}:6379", ""]))
        (process / "environ").write_text("\0".join(["HOME=/root", *said, ""]))
    (tmp_path / "3").mkdir()  # one that has ended since it was listed
    assert tokens_on_this_machine(address, tmp_path) == mode
    shutil.rmtree(tmp_path / "0")
    assert tokens_on_this_machine("auto", tmp_path) == "disabled"


def test_where_nobody_answers_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ClusterError, match="nobody answers there") as error, connected(f"127.0.0.1:{port}"):
            pass
    assert "ray start --head" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_description_of_a_cluster_is_one_that_ray_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    source = Path(__file__).parents[1] / "extract" / "ray.yaml"
    described = prepare_config(yaml.safe_load(source.read_text()))
    validate_config(described)
    assert described["max_workers"] == len(described["provider"]["worker_ips"])
    assert "--port=6379" in described["head_start_ray_commands"][-1]
