"""The entry point `vaprompt`: its commands, and how a failure becomes one line and an exit code.

0 done, 1 our bug, 2 the user's input, 3 done in part (the rest is listed), 130 interrupted, 143 told to end (SIGTERM).
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

import vaprompt
from vaprompt.cli import (
    crossvalidate,
    data,
    demo,
    doctor,
    evaluate,
    extract,
    finetune,
    plot,
    predict,
    report,
    runs,
    serve,
    store,
    submit,
    sweep,
    synth,
    train,
    transfer,
    weights,
)
from vaprompt.cli.output import printable
from vaprompt.errors import OptionError, VapromptError
from vaprompt.memory import lack_of_memory

BUG, INTERRUPTED, TERMINATED = 1, 130, 143
EMPTY = re.compile(r"--[a-z-]+=")
"""An option without its value."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Valence and arousal from faces and voices in video: encode once, try ideas in seconds. "
    "Start with `vaprompt demo`; `vaprompt doctor` says what this machine can do.",
)
app.command("demo", short_help="The whole job on drawn faces, in minutes.")(demo.demo)
app.command("synth", short_help="Write a synthetic data set.")(synth.synth)
app.add_typer(data.app, name="data")
app.command("extract", short_help="Stage 1: a data set to a feature store.")(extract.extract)
store.app.command("push")(transfer.push)
store.app.command("pull")(transfer.pull)
app.add_typer(store.app, name="store")
app.command("train", short_help="Stage 2: a feature store to a run.")(train.train)
app.command("sweep", short_help="Many variants of a training, side by side.")(sweep.sweep)
app.command("finetune", short_help="A run's encoders, trained on raw media.")(finetune.finetune)
app.command("evaluate", short_help="The scores of a run.")(evaluate.evaluate)
app.command("crossvalidate", short_help="Scores over rotated folds of a store.")(crossvalidate.crossvalidate)
app.add_typer(runs.app, name="runs")
app.command("submit", short_help="The challenge's file, written or checked.")(submit.submit)
app.command("report", short_help="A page that explains a run, or compares runs.")(report.report)
app.add_typer(plot.app, name="plot")
app.command("predict", short_help="Valence and arousal for any video.")(predict.predict)
app.command("serve", short_help="A local page: videos and the camera.")(serve.serve)
app.add_typer(weights.app, name="weights")
app.command("doctor", short_help="What works here, and how to mend the rest.")(doctor.doctor)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"vaprompt {vaprompt.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a failure is told in one line on stderr."""
    try:
        _require_texts(arguments)
        _require_place()
        code = app(args=list(arguments), prog_name="vaprompt", standalone_mode=False) or 0
        sys.stdout.flush()
    except VapromptError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _misused(error)
    except KeyboardInterrupt:
        code = INTERRUPTED  # while the commands are put together; later, Typer makes an exit of it
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        lack = lack_of_memory(error)
        if lack is not None:
            return _fail(str(lack), lack.exit_code)
        full = _full_disk(error)
        if full is not None:
            return _fail(str(full), full.exit_code)
        # Whatever reaches this line is a bug of ours.
        if os.environ.get("VAPROMPT_TRACEBACK") == "1":
            traceback.print_exc()
        return _fail(f"a fault in vaprompt itself: {_one_line(error)}; please report it with {_saved_traceback()}", BUG)
    return _fail("interrupted; the same command goes on from here", code) if code == INTERRUPTED else int(code)


def main() -> None:
    """Run the command line that the process was given."""
    _open_streams()
    told = _terminable()
    code = run(sys.argv[1:])
    raise SystemExit(TERMINATED if told and code == INTERRUPTED else code)


def _terminable() -> list[int]:
    """Let SIGTERM end a command as Ctrl-C does: batch systems send it ahead of SIGKILL, and what is held is given back.

    A second one ends the process at once. Returns a list that is empty until the first.
    """
    told: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        told.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
    return told


def _fail(line: str, code: int) -> int:
    print(f"vaprompt: {printable(line)}", file=sys.stderr, flush=True)
    return code


def _require_texts(arguments: Sequence[str]) -> None:
    """Refuse empty arguments: taken for a path, each would mean the current folder."""
    if any(argument == "" or EMPTY.fullmatch(argument) for argument in arguments):
        at = " ".join(["vaprompt", *(shlex.quote(argument) for argument in arguments)])
        fault = "an argument is empty"
        raise OptionError(at, fault=fault, remedy="a variable in it is perhaps not set: give a value, or leave it out")


def _require_place() -> None:
    """Refuse to run in a folder that is gone: libraries say of it what nobody understands, or end the process."""
    try:
        Path.cwd()
    except FileNotFoundError:
        fault, remedy = "the folder that this was started in is no more", "cd to one that exists, and run it there"
        raise VapromptError(None, fault=fault, remedy=remedy) from None


def _full_disk(error: Exception) -> VapromptError | None:
    """Return what to say of a disk that is full where nobody closer to it did: mostly that of what is printed."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = error.filename or "what is printed"
    return VapromptError(where, fault=f"cannot be written ({error.strerror})", remedy="make room on that disk")


def _open_streams() -> None:
    """Open what a shell has closed (`>&-`), so that no file of ours takes its number and with it what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _misused(error: typer.TyperException) -> int:
    """Tell of a command line that cannot be understood, in one line."""
    context = getattr(error, "ctx", None)
    command = "vaprompt" if context is None else context.command_path
    if context is not None and error.message == context.get_help():
        print(error.message, file=sys.stderr)  # nothing was asked for, so all that can be is shown
        return error.exit_code
    place = command.removeprefix("vaprompt").strip()
    told = error.format_message().rstrip(".").replace("Value error, ", "")
    return _fail(f"{place}: {told}; see {command} --help" if place else f"{told}; see vaprompt --help", error.exit_code)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _saved_traceback() -> str:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="vaprompt-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exc(file=file)
    except OSError:
        return "what it shows with VAPROMPT_TRACEBACK=1"
    return file.name
