"""`vaprompt predict`: valence and arousal for every frame of any video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that `vaprompt train` made.")],
    media: Annotated[list[Path], typer.Argument(metavar="MEDIA", help="Video files, with or without sound.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for one CSV and one plot a video.")],
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Predict valence and arousal for every decoded frame of MEDIA, from the run alone.

    The CSV's columns are frame (from 1), time (seconds), valence and arousal (-1 to 1). A file that cannot be read
    is named with its reason while the others go on; the exit code is then 3, or 2 where none could be read.

    Example: vaprompt predict demo/run holiday.mp4 interview.mov --out predictions
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.prediction.predict import predict as run_prediction
    from vaprompt.report.figures import plot_prediction

    report = run_prediction(run, media, out, device=device, progress=progress())
    plots = [plot_prediction(video) for video in report.done]
    if as_json:
        done = [
            {"media": video.media, "csv": video.csv, "plot": plot, "frames": len(video.time_F), "notes": video.notes}
            for video, plot in zip(report.done, plots, strict=True)
        ]
        print_json({"done": done, "failed": report.failed})
    else:
        for video, plot in zip(report.done, plots, strict=True):
            print_lines([f"{video.media}: {len(video.time_F)} frames -> {video.csv}, {plot}"])
            print_lines(f"  note: {note}" for note in video.notes)
    raise typer.Exit(0 if not report.failed else 3 if report.done else 2)
