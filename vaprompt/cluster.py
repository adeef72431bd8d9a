"""A Ray cluster to work on: how much of it is wanted, how to be its client, and what of it is there."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from types import ModuleType

from vaprompt.errors import ClusterError
from vaprompt.heads import silence

INSTALL = "pip install 'vaprompt[ray]'"
HOW_TO_START = (
    "start one with: ray start --head, or ray up extract/ray.yaml; or name one with --address HOST:6379; "
    "--address local starts one on this machine alone; for one that asks for a token set RAY_AUTH_MODE=token"
)


LISTENS = 10.0
"""Seconds to wait for a cluster's head to answer."""
ADDRESS = "RAY_ADDRESS"
"""Ray's variable that says which cluster is meant where none is named."""
TOKENS = "RAY_AUTH_MODE"
"""Ray's variable that says whether a cluster and its clients show each other a token: `token` or `disabled`."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster is to be used, and how much of it one worker takes."""

    address: str = "auto"
    """`auto`: that of RAY_ADDRESS or of this machine; `HOST:PORT` of its head; `local`: begin one here, and end it."""
    workers: int | None = None
    """How many are wanted; None: as many as its nodes have room for, whenever nodes come or go."""
    gpus: float | None = None
    """GPUs of a worker, whole or a fraction of one; None: one where there are any."""
    cpus: float | None = None
    """Cores of a worker; None: its share of the smallest node."""


@dataclass(frozen=True)
class Size:
    """What one worker takes of a node."""

    gpus: float
    cpus: float

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.gpus:g} GPUs and {self.cpus:g} cores"


def require_ray() -> None:
    """Check that the optional package is installed.

    Raises:
        ClusterError: it is not.
    """
    if find_spec("ray") is None:
        raise ClusterError("--engine ray", fault="needs the package ray", remedy=f"install it with: {INSTALL}")


@contextmanager
def connected(address: str) -> Iterator[ModuleType]:
    """Yield the package ray while this process is a client of a cluster.

    What Ray prints on stdout meanwhile, such as of nodes that end, is dropped: results belong there.

    Raises:
        ClusterError: ray is not installed, or there is no cluster, or another version of it.
    """
    require_ray()
    where, address = _named(address)
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless it is asked for
    with _tokens_as_on(address), redirect_stdout(io.StringIO()):
        import ray

        mine = not ray.is_initialized()
        if mine:
            _require_answer(where, address)
            try:
                ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, include_dashboard=None)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                reason = " ".join(str(error).split())[:200]
                fault = f"no Ray cluster can be used there ({reason})"
                raise ClusterError(where, fault=fault, remedy=HOW_TO_START) from None
        try:
            yield ray
        finally:
            if mine:
                ray.shutdown()


def _named(address: str) -> tuple[str, str]:
    """Return by what a cluster is named, and its address; for `auto`, Ray's variable may name one.

    Raises:
        ClusterError: the address is none.
    """
    option = "--address "
    if address == "auto" and os.environ.get(ADDRESS):
        option, address = f"{ADDRESS}=", os.environ[ADDRESS]
    host, _, port = address.rpartition(":")
    if address not in ("auto", "local") and (not host or "/" in host or not port.isdigit() or int(port) > 65535):
        fault = "is not auto, local or HOST:PORT"
        raise ClusterError(f"{option}{address}", fault=fault, remedy=f"write for example {option}head:6379")
    return f"{option}{address}", address


def _require_answer(where: str, address: str) -> None:
    """Check that a cluster's head answers: Ray itself would try for minutes.

    Raises:
        ClusterError: none does.
    """
    if address == "auto":
        address = _last_begun_here()
        where = f"{where} ({address})"
    if address in ("", "local"):
        return
    reason = silence(address, LISTENS)
    if reason is not None:
        remedy = f"unset {ADDRESS}, or {HOW_TO_START}" if where.startswith(ADDRESS) else HOW_TO_START
        raise ClusterError(where, fault=f"nobody answers there ({reason})", remedy=remedy)


def _last_begun_here() -> str:
    """Return where Ray looks for the cluster of this machine if no head runs on it: what its last node wrote down.

    Nothing where a head does run, or no node has written.
    """
    # Ray tells nobody else; a version that has these no more looks for it by itself, however long that takes.
    with suppress(ImportError, AttributeError):
        from ray._private import services

        if not services.find_gcs_addresses():  # type: ignore[no-untyped-call]
            return services.find_bootstrap_address(None) or ""
    return ""


@contextmanager
def _tokens_as_on(address: str) -> Iterator[None]:
    """Let this process show a token if the cluster of this machine wants one, unless the user has said what to do.

    Ray takes any token in the user's home, which `--address local` leaves there, for a sign that the cluster of `auto`
    wants it, and that of HOST:PORT it never shows one. Where that is wrong, all workers end at once, or nobody answers.
    """
    mode = None if address == "local" or os.environ.get(TOKENS) else tokens_on_this_machine(address)
    if mode is None:
        yield
        return
    os.environ[TOKENS] = mode
    try:
        yield
    finally:
        os.environ.pop(TOKENS, None)


def tokens_on_this_machine(address: str, processes: Path = Path("/proc")) -> str | None:
    """Return whether the nodes of a cluster that run on this machine use a token, as Ray's variable says it.

    None where there are none, or that cannot be told.

    Args:
        address: `auto`, or HOST:PORT of its head.
        processes: where the system shows them.
    """
    found = set()
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):
            program, *arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if program.rpartition("/")[2] != "raylet":
                continue
            if address == "auto" or f"--gcs-address={address}" in arguments:
                said = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                (mode,) = [one for one in said if one.startswith(f"{TOKENS}=")] or [f"{TOKENS}=disabled"]
                found.add(mode.partition("=")[2])
    return found.pop() if len(found) == 1 else None


def size_of_worker(nodes: Sequence[Mapping[str, float]], wanted: Cluster) -> Size:
    """Return what one worker is to take, where that was left open.

    Args:
        nodes: each node's resources, of which `CPU` and `GPU` count.
        wanted: what was asked for.
    """
    gpus = wanted.gpus
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    if wanted.cpus is not None:
        return Size(gpus, wanted.cpus)
    if gpus == 0:
        # One for each node: it uses all cores that it is given.
        shares = [node["CPU"] for node in nodes if node.get("CPU", 0) >= 1]
    else:
        fitting = ((node, node.get("GPU", 0) // gpus) for node in nodes)
        shares = [node.get("CPU", 0) // count for node, count in fitting if count >= 1]
    return Size(gpus, float(min(shares, default=1)))


def workers_that_fit(nodes: Sequence[Mapping[str, float]], size: Size) -> int:
    """Return how many workers of a size the nodes have room for, whatever else runs there."""
    return sum(_fit(node, size) for node in nodes)


def _fit(node: Mapping[str, float], size: Size) -> int:
    limits = [node.get(name, 0) // part for name, part in (("GPU", size.gpus), ("CPU", size.cpus)) if part > 0]
    # Who takes nothing would fit without end.
    return 1 if not limits else int(min(limits, default=inf))
