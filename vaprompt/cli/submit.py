"""`vaprompt submit`: the file that the challenge asks for, and the check of anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make

FAULTY = 2


def submit(
    template: Annotated[Path, typer.Option(metavar="FILE", help="The edition's template, whose rows are wanted.")],
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]", help="A run, or several whose predictions are averaged.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="The store that holds the template's videos, or its URL.")
    ] = None,
    out: Annotated[Path | None, typer.Option(parser=to_make, metavar="FILE", help="The submission to write.")] = None,
    fill: Annotated[
        Literal["interpolate", "previous", "nearest"],
        typer.Option(help="Where frames without a face crop have their values from."),
    ] = "interpolate",
    every: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="End a window at every Nth encoded picture; default: every stride."),
    ] = None,
    smooth: Annotated[
        str, typer.Option(metavar="KIND:SECONDS", help="mean, gaussian or median over time, such as gaussian:3.")
    ] = "none",
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write nothing; list the first faults of this submission.")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write the template's rows, in its order, with predictions in [-1, 1]; or check a submission with --check.

    With --check the exit code is 2 where the file has faults, which are listed by line.

    Example: vaprompt submit runs/first --store test.zarr --template sample.txt --out mine.txt
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.evaluation.template import check_submission

    if check is not None:
        if runs or store is not None or out is not None:
            raise typer.BadParameter("--check takes --template alone, and neither RUN nor --store nor --out")
        faults, total = check_submission(check, template)
        if as_json:
            print_json({"file": check, "template": template, "valid": total == 0, "total": total, "faults": faults})
        elif total:
            print_lines(f"{check}:{fault.line}: {fault.fault}" for fault in faults)
            print_lines([f"{total} faults" + (f", the first {len(faults)} are shown" if total > len(faults) else "")])
        else:
            print_lines([f"{check}: valid for {template}"])
        raise typer.Exit(FAULTY if total else 0)
    if not runs or store is None or out is None:
        raise typer.BadParameter("a submission needs RUN, --store and --out; or check one with --check FILE")

    from vaprompt.evaluation.smoothing import parse_smoothing
    from vaprompt.evaluation.submission import submit as write_submission

    written = write_submission(
        runs,
        store=store,
        template=template,
        out=out,
        fill=fill,
        every=every,
        smoothing=parse_smoothing(smooth),
        device=device,
        progress=progress(),
    )
    if as_json:
        print_json({"written": written})
        return
    print_lines([f"{written.path}: {written.rows} rows of {written.videos} videos; {written.interpolation}"])
    print_lines(f"note: {note}" for note in written.notes)
