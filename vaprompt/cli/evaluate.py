"""`vaprompt evaluate`: the scores of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaprompt.cli.options import DeviceOption, JsonOption


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that `vaprompt train` made.")],
    store: Annotated[
        Path | None, typer.Option(metavar="STORE", help="The store to score on; default: the run's own.")
    ] = None,
    split: Annotated[Literal["train", "validation"], typer.Option(help="Which videos to score.")] = "validation",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a run: CCC on every valid frame (official) and on the paper's frames, beside ridge regression.

    Writes evaluation.json, with the scores of each video, and traces.png, predicted against true, into RUN.

    Example: vaprompt evaluate runs/first --split validation
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import print_scores
    from vaprompt.evaluation.evaluate import RESULT
    from vaprompt.evaluation.evaluate import evaluate as run_evaluation
    from vaprompt.report.figures import plot_evaluation

    evaluation = run_evaluation(run, store=store, split=split, device=device, progress=progress())
    traces = plot_evaluation(evaluation, run)
    if as_json:
        print_json({**evaluation.result, "plot": traces})
        return
    print_scores(evaluation.result)
    print_lines([f"scores: {run / RESULT}", f"traces: {traces}"])
