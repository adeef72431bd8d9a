"""`vaprompt store pack`, `unpack`, `export` and `import`: a store as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import JsonOption, StoreArgument, to_read, to_write

NewStoreArgument = Annotated[
    Path, typer.Argument(parser=to_write, metavar="STORE", help="The folder to write; not there yet.")
]
PACKED, HDF5 = "OUT.zarr.zip", "OUT.h5"
PackedArgument = Annotated[Path, typer.Argument(parser=to_read, metavar=PACKED, help="The packed store.")]
NewPackedArgument = Annotated[Path, typer.Argument(parser=to_write, metavar=PACKED, help="The packed store.")]
Hdf5Argument = Annotated[Path, typer.Argument(parser=to_read, metavar=HDF5, help="The HDF5 file.")]
NewHdf5Argument = Annotated[Path, typer.Argument(parser=to_write, metavar=HDF5, help="The HDF5 file.")]


def pack(store: StoreArgument, out: NewPackedArgument, as_json: JsonOption = False) -> None:
    """Write a store into one zip file, which every command reads in place. Each file is checked on the way.

    The same store gives the same bytes. OUT appears once it is whole, and never in the place of something else.

    Example: vaprompt store pack demo/store.zarr store.zarr.zip
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.sharing.packed import pack as run_pack
    from vaprompt.store.urls import shown

    run_pack(store, out, progress=progress())
    _tell({"store": shown(store), "file": out, "bytes": out.stat().st_size}, out, as_json)


def unpack(file: PackedArgument, store: NewStoreArgument, as_json: JsonOption = False) -> None:
    """Write a packed store into a folder, byte for byte what it was. Each file is checked on the way.

    Killed and run again, it goes on where it was.

    Example: vaprompt store unpack store.zarr.zip store.zarr
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.sharing.packed import unpack as run_unpack

    run_unpack(file, store, progress=progress())
    _tell({"store": store, "file": file, "bytes": file.stat().st_size}, store, as_json)


def export(store: StoreArgument, out: NewHdf5Argument, as_json: JsonOption = False) -> None:
    """Write a store into one HDF5 file: the same groups and arrays, for whatever reads HDF5 better than Zarr.

    OUT appears once it is whole, and never in the place of something else.

    Example: vaprompt store export demo/store.zarr store.h5
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.sharing.hdf5 import export as run_export
    from vaprompt.store.urls import shown

    run_export(store, out, progress=progress())
    _tell({"store": shown(store), "file": out, "bytes": out.stat().st_size}, out, as_json)


def import_(file: Hdf5Argument, store: NewStoreArgument, as_json: JsonOption = False) -> None:
    """Write the store in an exported HDF5 file into a folder, byte for byte what it was.

    Each file is checked against its digest. Killed and run again, it goes on where it was.

    Example: vaprompt store import store.h5 store.zarr
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.sharing.hdf5 import import_ as run_import

    run_import(file, store, progress=progress())
    _tell({"store": store, "file": file, "bytes": file.stat().st_size}, store, as_json)


def _tell(facts: dict[str, object], written: Path, as_json: bool) -> None:
    from vaprompt.cli.output import print_json, print_lines

    if as_json:
        print_json(facts)
    else:
        print_lines([f"written: {written}"])
