"""`vaprompt store`: what is in a feature store, and sharing one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli import store_files, store_sets
from vaprompt.cli.options import JsonOption

app = typer.Typer(help="Look into a feature store, or share it.", no_args_is_help=True, rich_markup_mode=None)


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


app.command("pack", short_help="One zip file, read in place.")(store_files.pack)
app.command("unpack", short_help="A packed store back into a folder.")(store_files.unpack)
app.command("export", short_help="One HDF5 file.")(store_files.export)
app.command("import", short_help="An exported store back into a folder.")(store_files.import_)
app.command("merge", short_help="Several stores into one.")(store_sets.merge)
app.command("subset", short_help="A part of a store.")(store_sets.subset)
app.command("diff", short_help="In what two stores differ.")(store_sets.diff)
