"""`vaprompt store`: what is in a feature store, whether it is whole, and sharing it."""

from __future__ import annotations

from typing import Annotated

import typer

from vaprompt.cli import store_files, store_sets
from vaprompt.cli.options import JsonOption, StoreArgument

app = typer.Typer(help="Look into a feature store, check it, share it.", no_args_is_help=True, rich_markup_mode=None)


@app.command(short_help="What is in a store, and what made it.")
def info(
    store: StoreArgument,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a store, per split, what made it, and how large it is.

    Videos that could not be extracted are listed with their reasons; the exit code is then 3.

    Example: vaprompt store info demo/store.zarr
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.tell_store import print_store
    from vaprompt.store import FeatureStore
    from vaprompt.store.urls import shown

    content = FeatureStore.open(store).info()
    if as_json:
        print_json({"store": shown(store), **content})
    else:
        print_store(shown(store), content)
    raise typer.Exit(3 if content["failed"] else 0)


@app.command(short_help="Find what is missing, cut short or changed.")
def verify(
    store: StoreArgument,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte, and look at the values.")] = False,
    mend: Annotated[
        bool, typer.Option("--repair", help="Remove what is broken, so that extract makes it again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find whatever in a store is missing, cut short or changed; the exit code is 3 where something is.

    Without --deep: markers, names, sizes and metadata; with it, every file's digest and every value, too.

    Example: vaprompt store verify affwild2.zarr --deep
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell_store import print_verification
    from vaprompt.store.repair import repair
    from vaprompt.store.verification import verify as run_verification

    found = run_verification(store, deep=deep, progress=progress())
    repaired = repair(store, found) if mend and found.faults else None
    if as_json:
        faults = [vars(fault) for fault in found.faults]
        makers = [vars(maker) for maker in found.makers]
        removed = [] if repaired is None else [vars(fault) for fault in repaired.removed]
        print_json({"ok": found.ok, "videos": found.videos, "faults": faults, "repaired": removed, "makers": makers})
    else:
        print_verification(found, repaired, deep=deep)
    raise typer.Exit(0 if found.ok else 3)


app.command("pack", short_help="One zip file, read in place.")(store_files.pack)
app.command("unpack", short_help="A packed store back into a folder.")(store_files.unpack)
app.command("export", short_help="One HDF5 file.")(store_files.export)
app.command("import", short_help="An exported store back into a folder.")(store_files.import_)
app.command("merge", short_help="Several stores into one.")(store_sets.merge)
app.command("subset", short_help="A part of a store.")(store_sets.subset)
app.command("diff", short_help="In what two stores differ.")(store_sets.diff)
