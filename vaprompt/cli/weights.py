"""`vaprompt weights fetch`: the one command that downloads anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import JsonOption, SetOption, to_make

app = typer.Typer(
    help="Bring the encoders' weights to where they are needed.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Keep `fetch` a command of its own name, as typer would drop the name of a group's only command."""


@app.command()
def fetch(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="An extraction recipe, such as extract/paper.toml.")],
    to: Annotated[Path, typer.Option(parser=to_make, metavar="DIR", help="Folder for the weights.")],
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download the weights that an extraction recipe names, on a machine with a network.

    Carry DIR to the machine without one, and extract there with the --set options that this command prints.

    Example: vaprompt weights fetch extract/paper.toml --to weights
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.encoders.fetch import fetch as run_fetch
    from vaprompt.extraction.recipe import ExtractRecipe
    from vaprompt.recipes import read_recipe

    wanted = read_recipe(ExtractRecipe, recipe, changes or ())
    overrides = run_fetch(wanted.image, wanted.audio, to, progress=progress())
    if as_json:
        print_json({"to": to, "set": overrides})
    elif overrides:
        print_lines([f"weights: {to}", "use them with:", *(f"  --set {key}={at}" for key, at in overrides.items())])
    else:
        print_lines([f"{recipe} names no weights that have to be fetched"])
