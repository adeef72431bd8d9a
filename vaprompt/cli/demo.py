"""`vaprompt demo`: the whole job, on a data set that it draws itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make


def demo(
    target: Annotated[
        Path, typer.Argument(parser=to_make, metavar="DIR", help="Folder to write; default: demo.")
    ] = Path("demo"),
    videos: Annotated[
        int | None, typer.Option(metavar="N", min=3, max=500, help="Draw so many videos, for a quicker look.")
    ] = None,
    # A video is up to a tenth shorter, and still has to hold a window of 10 s.
    seconds: Annotated[float | None, typer.Option(metavar="S", min=14, max=3600, help="Length of each video.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="E", min=1, help="Train at most so many epochs.")] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Do the whole job on drawn faces and voices: generate, extract, train, evaluate, predict, report.

    Needs no network, and some minutes on two cores. DIR then holds data, store.zarr, run, predictions and
    report.html, as the single commands would have made them (`predict` with --faces frames: drawn faces fill
    the picture). What is there already is not made again, so a second
    call is quick and a call that was stopped goes on.

    Example: vaprompt demo demo
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import print_scores, training_lines
    from vaprompt.cli.tell_extraction import extraction_lines
    from vaprompt.cli.whole_job import do_whole_job
    from vaprompt.training.run import summary

    changes = {"synthetic.videos": videos, "synthetic.seconds": seconds}
    job = do_whole_job(
        target,
        data_changes=[f"{key}={value}" for key, value in changes.items() if value is not None],
        train_changes=[] if epochs is None else [f"epochs={epochs}"],
        device=device,
        progress=progress(),
    )
    if as_json:
        print_json(
            {
                "data": job.data,
                "store": job.store,
                "run": job.run,
                "predictions": [video.csv for video in job.prediction.done],
                "plots": [job.traces, *job.plots],
                "report": job.report,
                "extraction": job.extraction,
                "training": summary(job.training),
                "evaluation": job.evaluation.result,
            }
        )
    else:
        print_lines([*extraction_lines(job.extraction), *training_lines(job.training)])
        print_scores(job.evaluation.result)
        print_lines(
            [
                f"data set:    {job.data}",
                f"store:       {job.store}",
                f"run:         {job.run} (scores in evaluation.json)",
                f"traces:      {job.traces}",
                *(f"prediction:  {video.csv}" for video in job.prediction.done),
                *(f"its plot:    {plot}" for plot in job.plots),
                f"report:      {job.report} (a page: open it in a browser)",
                f"next:        vaprompt predict {job.run} YOUR_VIDEO.mp4 --out {job.predictions}",
            ]
        )
    raise typer.Exit(3 if job.extraction.failed or job.prediction.failed else 0)
