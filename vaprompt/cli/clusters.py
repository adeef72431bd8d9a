"""Options of commands that can work on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vaprompt.cluster import Cluster


class Engine(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[Engine, typer.Option(help="Where to work: on this machine, or on a Ray cluster.")]
AddressOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Ray: auto (default), HOST:PORT, or local: begin a cluster here.")
]
GpusOption = Annotated[
    float | None,
    typer.Option("--worker-gpus", min=0, metavar="X", help="Ray: GPUs of each, or a share of one, such as 0.5."),
]
CpusOption = Annotated[float | None, typer.Option("--worker-cpus", min=0, metavar="X", help="Ray: cores of each.")]


def chosen_cluster(engine: Engine, given: Mapping[str, Any], written: str | None = None) -> Cluster | None:
    """Return the cluster that the options ask for; None where they ask for none.

    Args:
        engine: where to work.
        given: the options `--address`, `--workers`, `--worker-gpus` and `--worker-cpus`, those that say nothing without
            a cluster being refused there.
        written: the store that is to be written, if one is: a folder that all nodes can see.

    Raises:
        ClusterError: Ray is not installed, an option says nothing without it, or what is written lies behind a URL.
    """
    from vaprompt.cluster import Cluster, require_ray
    from vaprompt.errors import ClusterError
    from vaprompt.store.urls import local_path, shown

    if engine is Engine.local:
        for option, value in given.items():
            if value is not None:
                raise ClusterError(option, fault="says nothing without a cluster", remedy="add --engine ray")
        return None
    require_ray()
    if written is not None and local_path(written) is None:
        fault = "would be made in this machine's cache, which other nodes do not see"
        raise ClusterError(
            shown(written), fault=fault, remedy="extract into a folder that all see, then: vaprompt store push"
        )
    workers, gpus, cpus = (given.get(f"--{name}") for name in ("workers", "worker-gpus", "worker-cpus"))
    return Cluster(given.get("--address") or "auto", workers, gpus, cpus)
