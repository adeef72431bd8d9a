"""`vaprompt train`: stage 2, from a feature store to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, LogOption, SetOption, StoreArgument, to_make


def train(
    store: StoreArgument,
    run: Annotated[
        Path, typer.Option(parser=to_make, metavar="RUN", help="Folder for the run: weights, recipe, metrics.")
    ],
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A training recipe; default: the paper's.")
    ] = None,
    changes: SetOption = None,
    seed: Annotated[int | None, typer.Option(metavar="K", min=0, help="In place of the recipe's seed.")] = None,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped; ends with the same weights.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Keep at most so much of the features in memory, such as 2GB; default: all."),
    ] = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train on a feature store (stage 2): seconds to minutes, since no picture or sound is read again.

    RUN then holds the best epoch's weights, the recipe with every field, and metrics.jsonl, a line an epoch.

    Example: vaprompt train affwild2.zarr train/paper.toml --run runs/first --set loss.kl=0.1 --seed 1
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import training_lines
    from vaprompt.recipes import read_recipe, shipped
    from vaprompt.sizes import parse_size
    from vaprompt.training.recipe import TrainRecipe
    from vaprompt.training.run import summary
    from vaprompt.training.run import train as run_training
    from vaprompt.training.tensorboard import logged

    seeded = [*(changes or ()), *([] if seed is None else [f"seed={seed}"])]
    wanted = read_recipe(TrainRecipe, recipe or shipped("train", "paper"), seeded)
    most = None if memory is None else parse_size("--memory", memory)
    with logged(log) as watch:
        result = run_training(
            store, wanted, run, device=device, resume=resume, memory=most, watch=watch, progress=progress()
        )
        if watch is not None:
            watch.whole(run)
    if as_json:
        print_json(summary(result))
    else:
        print_lines(training_lines(result))
        print_lines([f"next: vaprompt evaluate {run}"])
