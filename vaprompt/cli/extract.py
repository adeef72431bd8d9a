"""`vaprompt extract`: stage 1, from a data set to a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.clusters import AddressOption, CpusOption, Engine, EngineOption, GpusOption, chosen_cluster
from vaprompt.cli.options import DeviceOption, JsonOption, SetOption


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
    engine: EngineOption = Engine.local,
    address: AddressOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ray: so many workers; default: as many as fit.")
    ] = None,
    gpus: GpusOption = None,
    cpus: CpusOption = None,
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

    cluster = chosen_cluster(
        engine, {"--address": address, "--workers": workers, "--worker-gpus": gpus, "--worker-cpus": cpus}, store
    )
    if encoders is None:
        wanted = read_recipe(ExtractRecipe, recipe or shipped("extract", "paper"), changes or ())
    elif recipe is not None:
        raise typer.BadParameter("give RECIPE, or --encoders RUN whose recipe is taken, but not both")
    else:
        # Here, as torch comes with it, which takes seconds and is not needed to see that nothing is to be done.
        from vaprompt.training.runs import read_complete

        facts = read_complete(encoders)
        made_by = changed(ExtractRecipe, facts["extraction"], (), where=str(encoders))
        # What a run says names no files here; what the user says may.
        values = made_by.model_dump(mode="json")
        wanted = changed(ExtractRecipe, values, changes or (), where=str(encoders), folder=Path())
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
