"""`vaprompt synth`: a synthetic data set in Aff-Wild2's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import JsonOption


def synth(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must not hold anything yet.")],
    videos: Annotated[int, typer.Option(metavar="N", help="Number of videos.")] = 34,
    seconds: Annotated[float, typer.Option(metavar="S", help="Length of each video.")] = 40.0,
    seed: Annotated[int, typer.Option(metavar="K", help="Same seed, same data set.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Write a synthetic data set of drawn faces and voices, in Aff-Wild2's own layout.

    It holds what Aff-Wild2 holds: several frame rates, frames marked as invalid, missing face crops, two people in
    one video, silence, a video without sound. It is for trying things out and for tests; what a model learns on
    drawn faces says nothing about real ones.

    Example: vaprompt synth drawn --videos 8 --seconds 15 --seed 1
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
    from vaprompt.datasets.synthetic.writer import write_synthetic
    from vaprompt.recipes import validated

    recipe = validated(SyntheticRecipe, {"videos": videos, "seconds": seconds, "seed": seed}, where="synth")
    write_synthetic(target, recipe, progress())
    if as_json:
        print_json({"dataset": target, "recipe": recipe.model_dump(mode="json")})
    else:
        print_lines([f"wrote {target}", f"next: vaprompt extract {target} extract/demo.toml --store {target}.zarr"])
