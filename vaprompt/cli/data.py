"""`vaprompt data check`: whether a data set is whole and ready for extraction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import JsonOption

app = typer.Typer(help="Look at a data set.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `check` a command of its own name, as typer would drop the name of a group's only command."""


@app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, or a description from data/.")],
    deep: Annotated[bool, typer.Option("--deep", help="Decode all videos and crops; takes long.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Count what a data set holds, against its edition, and name everything that does not fit. Changes nothing.

    The exit code is 0 where all of it can be extracted, 3 where some videos will be left out (they are listed), and
    2 where nothing can be done.

    Example: vaprompt data check data/affwild2.toml
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell_data import print_check
    from vaprompt.datasets.check import check as run_check
    from vaprompt.datasets.description import open_dataset

    watcher = progress()
    found = run_check(open_dataset(data, watcher), deep=deep, progress=watcher)
    if as_json:
        print_json(found.as_json())
    else:
        print_check(found)
    raise typer.Exit(found.exit_code)
