"""`vaprompt store`: what is in a feature store."""

from __future__ import annotations

import typer

from vaprompt.cli.options import JsonOption, StoreArgument

app = typer.Typer(help="Look into a feature store, and share it.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def info(
    store: StoreArgument,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a store, per split, what made it, and how large it is.

    Videos that could not be extracted are listed with their reasons; the exit code is then 3.

    Example: vaprompt store info demo/store.zarr
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.tell import print_store
    from vaprompt.store import FeatureStore
    from vaprompt.store.urls import shown

    content = FeatureStore.open(store).info()
    if as_json:
        print_json({"store": shown(store), **content})
    else:
        print_store(shown(store), content)
    raise typer.Exit(3 if content["failed"] else 0)
