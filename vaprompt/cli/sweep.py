"""`vaprompt sweep`: many variants of a training on one store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.clusters import AddressOption, CpusOption, Engine, EngineOption, GpusOption, chosen_cluster
from vaprompt.cli.options import DeviceOption, JsonOption, LogOption, SetOption, StoreArgument, to_make


class Stacking(StrEnum):
    """Whether variants are trained as one network."""

    auto = "auto"
    never = "never"
    always = "always"


def sweep(
    store: StoreArgument,
    recipe: Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="Which variants: a list, a grid, or a search.")],
    runs: Annotated[Path, typer.Option(parser=to_make, metavar="DIR", help="Folder for the variants' runs.")],
    changes: SetOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="So many side by side; default: one for each core (for two, in small sweeps), or one on a GPU.",
        ),
    ] = None,
    stack: Annotated[
        Stacking,
        typer.Option(help="Train variants that differ in numbers alone as one network; auto: on a GPU."),
    ] = Stacking.auto,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Whether to score each run as `vaprompt evaluate` does.")
    ] = True,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Keep at most so much of the features in each worker's memory, as 2GB."),
    ] = None,
    log: LogOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = Engine.local,
    address: AddressOption = None,
    gpus: GpusOption = None,
    cpus: CpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train many variants of a recipe on one store, whose features are read once.

    What is already trained and scored in DIR is left as it is, so the same command goes on after a stop. A variant
    that fails is listed with its reason while the others go on; the exit code is then 3. `vaprompt runs DIR` ranks
    what is there. With --engine ray, every node of the cluster has to see STORE and DIR.

    Example: vaprompt sweep affwild2.zarr train/table2.toml --runs runs/table2
    """
    from vaprompt.cli.board import watcher
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell_sweep import print_sweep
    from vaprompt.sizes import parse_size
    from vaprompt.sweeps.sweep import RESULT, run_sweep, summary
    from vaprompt.sweeps.variants import read_sweep

    given = {"--address": address, "--worker-gpus": gpus, "--worker-cpus": cpus}
    cluster = chosen_cluster(engine, given if engine is Engine.local else {**given, "--workers": workers})
    wanted = read_sweep(recipe, runs, changes or ())
    result = run_sweep(
        store,
        wanted,
        runs,
        device=device,
        workers=workers,
        cluster=cluster,
        memory=None if memory is None else parse_size("--memory", memory),
        stack=stack.value,
        score=score,
        log=log,
        watcher=watcher(),
        progress=progress(),
    )
    if as_json:
        print_json(summary(result))
    else:
        print_sweep(result)
        print_lines([f"scores: {runs / RESULT}", f"next: vaprompt runs {runs}"])
    raise typer.Exit(3 if result.failed else 0)
