"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe (dotted key); may be repeated."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, or auto: the fastest there is.")
]

PLACES = "a folder, a zip file, or a URL (s3://, gs://, hf://, https://, file://)"
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help=f"A feature store: {PLACES}.")]
