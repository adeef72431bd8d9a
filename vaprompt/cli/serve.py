"""`vaprompt serve`: a local page for videos and the camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, to_make


def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that `vaprompt train` made.")],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; what others can reach needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="VAPROMPT_TOKEN",
            help="What a browser has to bring along; auto makes one. Better set in the variable: others see options.",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            parser=to_make, metavar="DIR", help="Keep videos and results here; by default they are removed at the end."
        ),
    ] = None,
    faces: Annotated[
        Literal["auto", "detect", "frames"],
        typer.Option(help="detect: find faces; frames: take whole frames; auto: find them where the run needs them."),
    ] = "auto",
    person: Annotated[
        Literal["largest", "all"], typer.Option(help="In videos, the most prominent person or everybody.")
    ] = "largest",
    max_megabytes: Annotated[int, typer.Option(metavar="N", min=1, help="Largest video.")] = 2000,
    max_minutes: Annotated[int, typer.Option(metavar="N", min=1, max=1440, help="Longest video.")] = 60,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show a page on this machine: drop videos and get their pages and CSVs, or watch the camera.

    Nothing leaves the machine, and pages from elsewhere cannot ask this server for anything. Ctrl-C ends it. With
    --json, one object tells the address as soon as it can be opened.

    Example: vaprompt serve demo/run
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.serving.installed import require_installed

    require_installed()
    from vaprompt.serving.engine import Settings
    from vaprompt.serving.limits import Limits
    from vaprompt.serving.server import Address
    from vaprompt.serving.server import serve as run_server

    def ready(address: Address) -> None:
        if as_json:
            print_json({"url": address.url, "host": address.host, "port": address.port, "token": address.token})
        else:
            print_lines([f"open {address.url} in a browser; Ctrl-C ends the server"])

    most = max_megabytes * 10**6
    limits = Limits(bytes=most, seconds=max_minutes * 60.0, held=max(Limits.held, 10 * most))
    settings = Settings(str(run), faces=faces, person=person, device=device, seconds=limits.seconds)
    run_server(settings, host=host, port=port, token=token, keep=keep, limits=limits, progress=progress(), ready=ready)
