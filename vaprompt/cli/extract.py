"""`vaprompt extract`: stage 1, from a data set to a feature store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, SetOption

if TYPE_CHECKING:
    from vaprompt.cluster import Cluster


class Engine(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


def extract(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, or a description from data/.")],
    store: Annotated[
        str, typer.Option(metavar="STORE", help="The feature store to make or to complete: a folder, or a URL.")
    ],
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="An extraction recipe; default: the paper's.")
    ] = None,
    encoders: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="In place of RECIPE: as RUN needs it, with its encoders and stream name."),
    ] = None,
    changes: SetOption = None,
    device: DeviceOption = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after the first N videos, to try things out.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Every N-th video from the I-th on: one task of a Slurm array."),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Keep the features under this name, beside those of other encoders."),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Make again what was made of files changed since.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Look for such changes by reading every file.")] = False,
    engine: Annotated[Engine, typer.Option(help="Where to work: on this machine, or on a Ray cluster.")] = Engine.local,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Ray: auto (default), HOST:PORT, or local: begin a cluster here."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ray: so many workers; default: as many as fit.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option("--worker-gpus", min=0, metavar="X", help="Ray: GPUs of each, or a share of one, such as 0.5."),
    ] = None,
    cpus: Annotated[float | None, typer.Option("--worker-cpus", min=0, metavar="X", help="Ray: cores of each.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Encode a data set once (stage 1): every face and every stretch of sound, into a feature store.

    What is already in the store is not made again, so the same command goes on after a stop; several may run at once
    and share the work. A video that cannot be read, or whose files have changed since, is listed with its reason
    while the others go on; the exit code is then 3. With a URL as STORE, the work is done in a folder of the cache,
    which is pushed in the end. After `finetune`, --encoders fills a stream of its own from the tuned encoders. With
    --engine ray, every node of the cluster has to see DATA and STORE.

    Example: vaprompt extract data/affwild2.toml extract/paper.toml --store affwild2.zarr --set image.batch=64
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell_extraction import extraction_lines, problem_lines
    from vaprompt.datasets.description import open_dataset
    from vaprompt.extraction.pipeline import extract as run_extraction
    from vaprompt.extraction.plan import Shard
    from vaprompt.extraction.recipe import ExtractRecipe
    from vaprompt.recipes import changed, read_recipe, shipped
    from vaprompt.store.cache import written_at
    from vaprompt.store.urls import shown

    cluster = _cluster(engine, store, address, workers, gpus, cpus)
    if encoders is None:
        wanted = read_recipe(ExtractRecipe, recipe or shipped("extract", "paper"), changes or ())
    elif recipe is not None:
        raise typer.BadParameter("give RECIPE, or --encoders RUN whose recipe is taken, but not both")
    else:
        # Here, as torch comes with it, which takes seconds and is not needed to see that nothing is to be done.
        from vaprompt.training.runs import read_complete

        facts = read_complete(encoders)
        wanted = changed(ExtractRecipe, facts["extraction"], changes or (), where=str(encoders))
        stream = stream or facts["recipe"].get("stream")
    part = None if shard is None else Shard.parse(shard)
    watcher = progress()
    dataset = open_dataset(data, watcher)
    for line in problem_lines(dataset.problems):
        watcher.say(line)
    with written_at(store, watcher) as folder:
        report = run_extraction(
            dataset,
            wanted,
            folder,
            device=device,
            limit=limit,
            shard=part,
            stream=stream,
            refresh=refresh,
            deep=deep,
            cluster=cluster,
            progress=watcher,
        )
    if as_json:
        print_json({"store": shown(store), **vars(report), "problems": dataset.problems})
    else:
        print_lines([*extraction_lines(report), f"store: {shown(store)}"])
    raise typer.Exit(3 if report.failed or report.changed else 0)


def _cluster(
    engine: Engine, store: str, address: str | None, workers: int | None, gpus: float | None, cpus: float | None
) -> Cluster | None:
    """Return the cluster that the options ask for; None where they ask for none."""
    from vaprompt.cluster import Cluster, require_ray
    from vaprompt.errors import ClusterError
    from vaprompt.store.urls import local_path, shown

    given = {"--address": address, "--workers": workers, "--worker-gpus": gpus, "--worker-cpus": cpus}
    if engine is Engine.local:
        for option, value in given.items():
            if value is not None:
                raise ClusterError(option, fault="says nothing without a cluster", remedy="add --engine ray")
        return None
    require_ray()
    if local_path(store) is None:
        fault = "would be made in this machine's cache, which other nodes do not see"
        raise ClusterError(
            shown(store), fault=fault, remedy="extract into a folder that all see, then: vaprompt store push"
        )
    return Cluster(address or "auto", workers, gpus, cpus)
