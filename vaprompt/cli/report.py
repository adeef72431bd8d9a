"""`vaprompt report`: a page that explains a run, or sets several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="A run that was evaluated; several are set side by side.")
    ],
    out: Annotated[Path, typer.Option(parser=to_make, metavar="PAGE.html", help="The page to write.")] = Path(
        "report.html"
    ),
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="The run's store, or its URL; default: where it was.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="The store's data set or its description: for the sound, which no store has."
        ),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(metavar="KIND:S", help="How traces are smoothed, as gaussian:3; default: as evaluate chose."),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained page about a run: it opens from disk, in any browser, without a network.

    Scores with intervals, the recipe against the paper's, training curves, every video's traces, the valence-arousal
    plane, the regions, the gate, attention, and errors by sound and face. Of several runs: a leaderboard, the fields
    that differ, paired differences, traces over one another. The exit code is 3 where a part could not be made.

    Example: vaprompt report runs/first --data data/affwild2.toml --out first.html
    """
    from vaprompt.cli.output import print_json, print_lines, size
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell_report import print_comparison, report_json
    from vaprompt.evaluation.smoothing import parse_smoothing
    from vaprompt.report.report import write_report

    filtered = None if smooth is None else parse_smoothing(smooth)
    made = write_report(runs, out, store=store, data=data, smoothing=filtered, device=device, progress=progress())
    if as_json:
        print_json(report_json(made))
    else:
        print_comparison(made)
        print_lines(f"note: {note}" for note in made.notes)
        print_lines([f"page: {made.path} ({size(made.bytes)})"])
    raise typer.Exit(3 if made.lacking else 0)
