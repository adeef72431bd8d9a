"""`vaprompt synth`: a synthetic data set in Aff-Wild2's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import JsonOption, to_make


def synth(
    target: Annotated[
        Path, typer.Argument(parser=to_make, metavar="DIR", help="Folder to write; must not hold anything yet.")
    ],
    videos: Annotated[int | None, typer.Option(metavar="N", min=3, max=500, help="Number of annotated people.")] = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", min=2, max=3600, help="Length of each video.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="K", min=0, help="Same seed, same data set.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a synthetic data set of drawn faces and voices, in Aff-Wild2's own layout.

    It holds what Aff-Wild2 holds: several frame rates, frames marked as invalid, missing face crops, two people in
    one video, silence, a video without sound. It is for trying things out and for tests; what a model learns on
    drawn faces says nothing about real ones. What no option sets is as in the demo.

    Example: vaprompt synth drawn --videos 8 --seconds 15 --seed 1
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.datasets.description import DatasetRecipe
    from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
    from vaprompt.datasets.synthetic.writer import write_synthetic
    from vaprompt.recipes import read_recipe, shipped

    asked = {"videos": videos, "seconds": seconds, "seed": seed}
    changes = [f"synthetic.{key}={value}" for key, value in asked.items() if value is not None]
    recipe = read_recipe(DatasetRecipe, shipped("data", "demo"), changes).synthetic or SyntheticRecipe()
    write_synthetic(target, recipe, progress())
    if as_json:
        print_json({"dataset": target, "recipe": recipe.model_dump(mode="json")})
    else:
        print_lines([f"wrote {target}", f"next: vaprompt extract {target} extract/demo.toml --store {target}.zarr"])
