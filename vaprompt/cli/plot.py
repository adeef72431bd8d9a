"""`vaprompt plot`: pictures of a run for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make

app = typer.Typer(help="Pictures of a run, for print.", no_args_is_help=True, rich_markup_mode=None)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run that was evaluated.")]
OutOption = Annotated[Path, typer.Option(parser=to_make, metavar="FILE", help="A .svg, .pdf or .png file.")]
WidthOption = Annotated[
    Literal["single", "double"], typer.Option(help="One column of a paper (3.25 in), or both (6.875 in).")
]


@app.command(short_help="Predicted against annotated over time.")
def traces(
    run: RunArgument,
    out: OutOption,
    width: WidthOption = "single",
    video: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Whose; may be repeated. Default: the worst, a middle one and the best."),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(metavar="KIND:S", help="Draw smoothed predictions, as gaussian:3; default: as they are."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw predicted against annotated valence and arousal over time.

    Example: vaprompt plot traces runs/first --out traces.svg --video video5
    """
    from vaprompt.evaluation.smoothing import parse_smoothing
    from vaprompt.report.evidence import gather
    from vaprompt.report.printing import require_format
    from vaprompt.report.prints import print_traces

    require_format(out)
    evidence = gather(run, None if smooth is None else parse_smoothing(smooth))
    shown = print_traces(evidence, out, width=width, videos=video or (), smooth=smooth is not None)
    _tell(out, as_json, videos=shown)


@app.command(short_help="How many frames lie where on the plane.")
def plane(run: RunArgument, out: OutOption, width: WidthOption = "single", as_json: JsonOption = False) -> None:
    """Draw how many frames lie where on the valence-arousal plane: annotation, prediction and error.

    Example: vaprompt plot plane runs/first --out plane.pdf --width double
    """
    from vaprompt.report.evidence import gather
    from vaprompt.report.printing import require_format
    from vaprompt.report.prints import print_plane

    require_format(out)
    print_plane(gather(run), out, width=width)
    _tell(out, as_json)


@app.command(short_help="Annotated regions against predicted ones.")
def regions(
    run: RunArgument,
    out: OutOption,
    width: WidthOption = "single",
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="The run's store, or its URL; default: where it was.")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Draw which regions the prompts gave each region of the annotation to, as a heat map with the phrases.

    Example: vaprompt plot regions runs/first --out regions.svg
    """
    from vaprompt.cli.progress import progress
    from vaprompt.devices import pick_device
    from vaprompt.report.evidence import gather
    from vaprompt.report.printing import require_format
    from vaprompt.report.regions_print import print_regions
    from vaprompt.report.studying import study

    require_format(out)
    evidence = gather(run)
    found = study(evidence, store=store, device=pick_device(device), progress=progress())
    print_regions(evidence, found, out, width=width)
    _tell(out, as_json)


@app.command(short_help="Loss and validation CCC by epoch.")
def curves(run: RunArgument, out: OutOption, width: WidthOption = "single", as_json: JsonOption = False) -> None:
    """Draw the training's loss and validation CCC, epoch by epoch.

    Example: vaprompt plot curves runs/first --out curves.svg
    """
    from vaprompt.report.evidence import gather
    from vaprompt.report.printing import require_format
    from vaprompt.report.prints import print_curves

    require_format(out)
    print_curves(gather(run), out, width=width)
    _tell(out, as_json)


def _tell(out: Path, as_json: bool, **more: object) -> None:
    from vaprompt.cli.output import print_json, print_lines

    if as_json:
        print_json({"plot": out, **more})
    else:
        print_lines([f"plot: {out}"])
