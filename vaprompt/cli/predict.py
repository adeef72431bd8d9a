"""`vaprompt predict`: valence and arousal for every frame of any video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that `vaprompt train` made.")],
    media: Annotated[
        list[Path],
        typer.Argument(
            metavar="MEDIA",
            help="Videos, with or without sound; or sound, for a run that only listens; or folders of face crops.",
        ),
    ],
    out: Annotated[Path, typer.Option(parser=to_make, metavar="DIR", help="Folder for one CSV and one plot a video.")],
    faces: Annotated[
        Literal["auto", "detect", "frames"],
        typer.Option(help="detect: find faces; frames: take whole frames; auto: find them where the run needs them."),
    ] = "auto",
    person: Annotated[
        Literal["largest", "all"], typer.Option(help="largest: the most prominent person; all: one CSV for each.")
    ] = "largest",
    every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="End a window at every Nth frame (1: nothing is interpolated); default: every stride of the recipe.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="R", help="Frames a second of face crops, which do not tell it; or rows a second of sound alone."
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Write a page a video, too: it plays, and the traces run with it.")
    ] = False,
    embed: Annotated[
        bool, typer.Option("--embed", help="--page with the video inside it, if that has less than 20 MB.")
    ] = False,
    overlay: Annotated[
        Path | None,
        typer.Option(
            parser=to_make, metavar="NEW.mp4", help="Write all that as a video, too, its sound kept; of one MEDIA."
        ),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Predict valence and arousal for every decoded frame of MEDIA, from the run alone.

    The CSV's columns are frame (from 1), time (seconds), valence and arousal (-1 to 1) and, where faces are looked
    for or given, face: 0 where there is none and the values are interpolated in time. A file that cannot be read is
    named with its reason while the others go on; the exit code is then 3, or 2 where none could be read.

    --page writes NAME.html beside the CSV: any browser opens it from disk and needs no network. It looks for the video
    where that is now, seen from the page; --embed puts it inside. --overlay writes a video that plays everywhere.

    Of a folder of one person's face crops (00001.jpg is frame 1) --rate says the frames a second: it is predicted like
    a video without sound.

    Example: vaprompt predict demo/run holiday.mp4 interview.mov --out predictions --page
    """
    from vaprompt.cli.output import print_json, print_lines, size
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import notes_of_all
    from vaprompt.prediction.predict import predict as run_prediction
    from vaprompt.report.figures import plot_prediction
    from vaprompt.report.footage import Footage
    from vaprompt.report.overlay import MOST_PEOPLE, require_overlay, write_overlay
    from vaprompt.report.screening import require_pages, screen, write_pages

    if overlay is not None:
        require_overlay(overlay, media)
    if page or embed:
        require_pages(media)
    told = progress()
    report = run_prediction(
        run, media, out, faces=faces, person=person, every=every, rate=rate, device=device, progress=told
    )
    plots = [plot_prediction(video) for video in report.done]
    about = {"run": str(run)}
    pages = write_pages(report, about=about, embed=embed, progress=told) if page or embed else {}
    if overlay is not None and report.done:
        write_overlay(screen(report.done, report.regions, Footage(), about=about), overlay, told)
    if as_json:
        done = [
            {
                "media": video.media,
                "person": video.person,
                "csv": video.csv,
                "plot": plot,
                "overlay": overlay,
                "page": pages[video.media].path if video.media in pages else None,
                "frames": len(video.time_F),
                "with_face": None if video.face_F is None else int(video.face_F.sum()),
                "interpolation": video.interpolation,
                "notes": video.notes,
            }
            for video, plot in zip(report.done, plots, strict=True)
        ]
        print_json({"done": done, "failed": report.failed})
    else:
        of_all = notes_of_all([video.notes for video in report.done])
        for video, plot in zip(report.done, plots, strict=True):
            whom = "" if video.person is None else f", person {video.person}"
            print_lines([f"{video.media}{whom}: {len(video.time_F)} frames -> {video.csv}, {plot}"])
            print_lines([f"  {video.interpolation}"])
            print_lines(f"  note: {note}" for note in video.notes if note not in of_all)
        for file, shown in pages.items():
            print_lines([f"{file}: page -> {shown.path} ({size(shown.bytes)})"])
            print_lines(f"  note: {note}" for note in shown.notes)
        if overlay is not None and report.done:
            print_lines([f"{media[0]}: overlay -> {overlay} ({size(overlay.stat().st_size)})"])
            if len(report.done) > MOST_PEOPLE:
                print_lines([f"  note: {MOST_PEOPLE} of {len(report.done)} people are drawn, the most prominent"])
        print_lines(f"note: {note}" for note in of_all)
    raise typer.Exit(0 if not report.failed else 3 if report.done else 2)
