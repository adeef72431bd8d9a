"""`vaprompt crossvalidate`: scores over rotated folds, to choose between recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, SetOption, StoreArgument, to_make


def crossvalidate(
    store: StoreArgument,
    out: Annotated[
        Path, typer.Option(parser=to_make, metavar="DIR", help="Folder for a run of each fold, and the scores.")
    ],
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A training recipe (TOML); default: the paper's.")
    ] = None,
    folds: Annotated[int, typer.Option(metavar="K", min=3, help="How many folds.")] = 5,
    every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="End a window at every Nth frame; default: every stride.")
    ] = None,
    changes: SetOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train K times on STORE's labelled videos, each time scoring those that were left out.

    All people of one video are in one fold. Out-of-fold scores serve to choose between recipes; they are no scores on
    the official validation split. What was stopped goes on when the same is asked for again.

    Example: vaprompt crossvalidate affwild2.zarr train/paper.toml --out folds
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import print_folds
    from vaprompt.evaluation.crossvalidation import RESULT, cross_validate
    from vaprompt.recipes import read_recipe, shipped
    from vaprompt.training.recipe import TrainRecipe

    settings = read_recipe(TrainRecipe, recipe or shipped("train", "paper"), changes or ())
    result = cross_validate(store, settings, out, folds=folds, every=every, device=device, progress=progress())
    if as_json:
        print_json(result)
        return
    print_folds(result)
    print_lines([f"scores: {out / RESULT}"])
