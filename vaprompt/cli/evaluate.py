"""`vaprompt evaluate`: the scores of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="A run that `vaprompt train` made; the predictions of several are averaged."
        ),
    ],
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="The store to score on, or its URL; default: each run's own.")
    ] = None,
    split: Annotated[
        Literal["train", "validation", "both"],
        typer.Option(help="Which videos to score; both: validation's, with the training split's beside them."),
    ] = "validation",
    every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="End a window at every Nth frame (1: nothing is interpolated); default: every stride of the recipe.",
        ),
    ] = None,
    tune_smoothing: Annotated[
        bool,
        typer.Option("--tune-smoothing", help="Choose a filter on the training split; its scores beside the others."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(parser=to_make, metavar="DIR", help="Folder for what is written; default: RUN, if there is one."),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a run: CCC on every valid frame (official) and on the paper's frames, beside ridge regression.

    Each score comes with a 95 % bootstrap interval over videos. Writes into RUN: evaluation.json, with the scores of
    each video, worst first; predictions.safetensors, every frame's prediction; traces.png, predicted against true.

    Example: vaprompt evaluate runs/first --every 1 --tune-smoothing
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import print_scores, print_worst
    from vaprompt.evaluation.evaluate import evaluate as run_evaluation
    from vaprompt.evaluation.kept import RESULT
    from vaprompt.report.figures import plot_evaluation

    evaluation = run_evaluation(
        runs,
        store=store,
        split=split,
        every=every,
        tune_smoothing=tune_smoothing,
        out=out,
        device=device,
        progress=progress(),
    )
    traces = None if evaluation.folder is None else plot_evaluation(evaluation, evaluation.folder)
    if as_json:
        print_json({**evaluation.result, "plot": traces})
        return
    print_scores(evaluation.result)
    print_worst(evaluation.result)
    if evaluation.folder is None:
        print_lines(["nothing is written for several runs: --out DIR keeps the scores of all videos, and a picture"])
    else:
        print_lines([f"scores: {evaluation.folder / RESULT}", f"traces: {traces}"])
