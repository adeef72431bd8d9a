"""`vaprompt extract`: stage 1, from a data set to a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, SetOption


def extract(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, or a description from data/.")],
    store: Annotated[Path, typer.Option(metavar="STORE", help="The feature store to make or to complete.")],
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="An extraction recipe; default: the paper's.")
    ] = None,
    changes: SetOption = None,
    device: DeviceOption = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after the first N videos, to try things out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Encode a data set once (stage 1): every face and every stretch of sound, into a feature store.

    What is already in the store is not made again, so the same command goes on after a stop. A video that cannot be
    read is listed with its reason while the others go on; the exit code is then 3.

    Example: vaprompt extract data/affwild2.toml extract/paper.toml --store affwild2.zarr --set image.batch=64
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import extraction_lines, problem_lines
    from vaprompt.datasets.description import open_dataset
    from vaprompt.devices import pick_devices
    from vaprompt.extraction.pipeline import extract as run_extraction
    from vaprompt.extraction.recipe import ExtractRecipe
    from vaprompt.recipes import read_recipe, shipped

    wanted = read_recipe(ExtractRecipe, recipe or shipped("extract", "paper"), changes or ())
    watcher = progress()
    dataset = open_dataset(data, watcher)
    for line in problem_lines(dataset.problems):
        watcher.say(line)
    report = run_extraction(dataset, wanted, store, device=pick_devices(device), limit=limit, progress=watcher)
    if as_json:
        print_json({"store": store, **vars(report), "problems": dataset.problems})
    else:
        print_lines([*extraction_lines(report), f"store: {store}"])
    raise typer.Exit(3 if report.failed else 0)
