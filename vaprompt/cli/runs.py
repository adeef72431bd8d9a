"""`vaprompt runs`: a leaderboard of what was trained, and how two runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaprompt.cli.options import JsonOption

LIST = "list"


class ListedByDefault(TyperGroup):
    """`vaprompt runs DIR` is `vaprompt runs list DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take what names no command for the folder to list, or for an option of listing."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [LIST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ListedByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Rank runs (list: may be left out), or tell two apart.",
)


@app.command(LIST, short_help="All runs below a folder, ranked.")
def list_runs(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders to search for runs.")],
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            "--filter",
            metavar="CONDITION",
            help="Only runs with, say, 'loss.kl<=0.2' or 'name=gru*'; may be repeated.",
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(metavar="KEY", help="mean, valence, arousal, name, seconds, epochs, or a field of the recipe."),
    ] = "mean",
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Whether to tell if the best is better by chance.")
    ] = True,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV on stdout.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rank the runs below DIR: scores, what differs between them, and whether the best is better by chance.

    Runs that differ in the seed alone are one line, with mean and deviation. `vaprompt runs DIR` does the same. The
    exit code is 3 where a run could not be read.

    Example: vaprompt runs list runs --where model.temporal.kind=gru --sort arousal
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell_runs import leaderboard_json, print_leaderboard, print_leaderboard_csv
    from vaprompt.report.leaderboard import leaderboard

    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, but not both")
    watched = progress()
    found = leaderboard(folders, where=where or (), sort=sort, compare=compare and not as_csv, progress=watched)
    if as_json:
        print_json(leaderboard_json(found))
    elif as_csv:
        print_leaderboard_csv(found)
        for note in found.notes:  # a table has no place for them
            watched.say(f"note: {note}")
    else:
        print_leaderboard(found)
    if found.lacking:
        raise typer.Exit(3)


@app.command("diff", short_help="What differs between two runs, and by how much.")
def diff_runs(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    as_json: JsonOption = False,
) -> None:
    """Show in which fields two runs differ, their scores, and whether B is better than A by more than chance.

    Example: vaprompt runs diff runs/first runs/no-prompts
    """
    from vaprompt.cli.output import print_json
    from vaprompt.cli.tell_runs import apart_json, print_apart
    from vaprompt.report.leaderboard import runs_apart

    found = runs_apart(first, second)
    if as_json:
        print_json(apart_json(found))
    else:
        print_apart(found)
