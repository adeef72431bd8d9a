"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaprompt.errors import OptionError, StoreError

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe (dotted key); may be repeated."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, or auto: the fastest there is.")
]


class Logger(StrEnum):
    """Where a training's epochs are told besides metrics.jsonl."""

    tensorboard = "tensorboard"


LogOption = Annotated[
    Logger | None, typer.Option("--log", help="Besides metrics.jsonl, write the epochs for TensorBoard, into each run.")
]

PLACES = "a folder, a zip file, or a URL (s3://, gs://, hf://, https://, file://)"
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help=f"A feature store: {PLACES}.")]


def to_write(text: str) -> Path:
    """Return the path of a folder or file to write, given as such or as a `file://` URL.

    Raises:
        OptionError: it is elsewhere.
        StoreError: the URL cannot be understood.
    """
    return _on_this_machine(text, "write it on this machine; `vaprompt store push` brings a folder to s3:// or gs://")


def to_make(text: str | Path) -> Path:
    """Return the path of what a command makes that is no store: a run, a page, a table; given as by `to_write`.

    Raises:
        OptionError: it is elsewhere.
    """
    from vaprompt.store.urls import local_path, shown

    with suppress(StoreError):
        path = local_path(text)
        if path is not None:
            return path
    remedy = "name a folder or file of this machine, and copy it there in the end"
    raise OptionError(shown(str(text)), fault="is not on this machine", remedy=remedy)


def to_read(text: str) -> Path:
    """Return the path of a file to read, given as such or as a `file://` URL.

    Raises:
        OptionError: it is elsewhere.
        StoreError: the URL cannot be understood.
    """
    return _on_this_machine(text, "copy the file here first; a store that lies there as a folder: vaprompt store pull")


def _on_this_machine(text: str, remedy: str) -> Path:
    from vaprompt.store.urls import local_path, shown

    path = local_path(text)
    if path is None:
        raise OptionError(shown(text), fault="is not on this machine", remedy=remedy)
    return path
