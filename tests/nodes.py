"""Nodes of a Ray cluster on this machine, and how one of them, or its head, dies."""

import os
import signal
from pathlib import Path


def kill(cluster, node) -> None:
    """End a node and all its workers at once, as when its power fails.

    Ray's own way to remove a node leaves its workers be until they notice, and they may finish their work by then.
    """
    _kill_workers(node)
    cluster.remove_node(node, allow_graceful=False)


def behead(cluster) -> None:
    """End a cluster's head and all its workers at once: what its clients ask is answered no more."""
    _kill_workers(cluster.head_node)
    for program in ("gcs_server", "raylet"):
        for started in cluster.head_node.all_processes[program]:
            started.process.kill()


def _kill_workers(node) -> None:
    (raylet,) = node.all_processes["raylet"]
    for listed in Path(f"/proc/{raylet.process.pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            os.kill(int(child), signal.SIGKILL)
