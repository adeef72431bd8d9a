"""`vaprompt store info`: what is in a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import JsonOption

app = typer.Typer(help="Look into a feature store.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `info` a command of its own name, as typer would drop the name of a group's only command."""


@app.command()
def info(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A feature store that `vaprompt extract` made.")],
    as_json: JsonOption = False,
) -> None:
    """Show what is in a store, per split, what made it, and how large it is.

    Videos that could not be extracted are listed with their reasons; the exit code is then 3.

    Example: vaprompt store info demo/store.zarr
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.tell import print_store
    from vaprompt.store import FeatureStore

    content = FeatureStore.open(store).info()
    if as_json:
        print_json({"store": store, **content})
    else:
        print_store(store, content)
    raise typer.Exit(3 if content["failed"] else 0)
