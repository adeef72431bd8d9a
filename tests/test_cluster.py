"""How many workers fit a cluster, and what is said where there is none."""

import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import yaml

from vaprompt import cluster, heads
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
from vaprompt.heads import Head

GPU_BOXES = [{"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}]
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
NO_FRAME = b"HTTP/1.0 505 Invalid HTTP version (2.0)\r\n\r\n"
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
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # says nothing where an address is given
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


@pytest.fixture
def ray_is_not_asked(monkeypatch):
    """Let what Ray is asked fail at once, where it would try for minutes."""

    def tried(*_, **__):
        raise AssertionError

    monkeypatch.setattr("ray.init", tried)


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def answering(answer: bytes, port: int = 0) -> Iterator[str]:
    """Yield an address at which somebody says this to all who come; a port of 0: any."""

    def serve() -> None:
        while True:
            try:
                guest, _ = server.accept()
            except OSError:
                return
            with guest:
                guest.sendall(answer)
                while guest.recv(64):
                    pass

    with socket.create_server(("127.0.0.1", port)) as server:
        Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)  # ends the waiting for others


@pytest.mark.usefixtures("ray_is_not_asked")
def test_where_nobody_answers_is_said_at_once(nobody):
    with pytest.raises(ClusterError, match="nobody answers there") as error, connected(nobody):
        pass
    assert "ray start --head" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("ray_is_not_asked")
@pytest.mark.parametrize(("answer", "reason"), [(NO_FRAME, "what listens is no Ray cluster"), (b"", "timed out")])
def test_who_listens_and_is_no_head_is_told_from_one(monkeypatch, answer, reason):
    monkeypatch.setattr(cluster, "LISTENS", 0.5)
    with answering(answer) as address, pytest.raises(ClusterError) as error, connected(address):
        pass
    assert str(error.value).startswith(f"--address {address}: nobody answers there ({reason}); start one with: ")


@pytest.mark.usefixtures("ray_is_not_asked")
def test_an_address_in_the_environment_is_looked_at_before_ray_tries_it(monkeypatch, nobody):
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    with pytest.raises(ClusterError) as error, connected("auto"):
        pass
    assert str(error.value).startswith(
        f"RAY_ADDRESS={nobody}: nobody answers there (Connection refused); unset RAY_ADDR"
    )
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with (
        pytest.raises(ClusterError, match=r"^RAY_ADDRESS=nonsense: is not auto, local or HOST:PORT"),
        connected("auto"),
    ):
        pass


@pytest.mark.usefixtures("ray_is_not_asked")
def test_an_address_that_a_head_left_when_it_was_killed_is_looked_at_before_ray_tries_it(monkeypatch, tmp_path, nobody):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)  # whatever else runs here
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(nobody)
    with pytest.raises(ClusterError) as error, connected("auto"):
        pass
    assert str(error.value).startswith(
        f"--address auto ({nobody}): nobody answers there (Connection refused); start one"
    )


def test_a_head_that_answers_no_more_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(heads, "GONE", 0.2)
    with answering(SETTINGS) as address:
        head = Head(address)
        assert head.answers()
    assert not head.answers()
    time.sleep(0.3)
    with answering(SETTINGS, int(address.rpartition(":")[2])):
        assert head.answers()
    assert not head.answers()  # what it missed before is forgotten
    time.sleep(0.3)
    with pytest.raises(ClusterError) as error:
        head.answers()
    assert str(error.value).startswith(f"--engine ray: the cluster's head at {address} answers no more; run the same ")


def test_the_description_of_a_cluster_is_one_that_ray_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    source = Path(__file__).parents[1] / "extract" / "ray.yaml"
    described = prepare_config(yaml.safe_load(source.read_text()))
    validate_config(described)
    assert described["max_workers"] == len(described["provider"]["worker_ips"])
    assert "--port=6379" in described["head_start_ray_commands"][-1]
