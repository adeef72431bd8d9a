"""The command line as people script against it: names, help, speed, and how failures are told."""

import errno
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from vaprompt.cli import main as command_line
from vaprompt.cli.main import app, run
from vaprompt.errors import StoreError

FROZEN = Path(__file__).with_name("command_line.txt")


def commands(command: Any, name: str = "vaprompt") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with its full name."""
    if hasattr(command, "commands"):
        for below, item in command.commands.items():
            yield from commands(item, f"{name} {below}")
    else:
        yield name, command


ALL = dict(commands(typer.main.get_command(app)))


def test_names_of_commands_and_options_stay():
    lines = []
    for name, command in ALL.items():
        lines.append(name)
        for parameter in command.params:
            flags = "/".join(parameter.opts) if parameter.param_type_name == "option" else parameter.metavar
            lines.append(f"    {flags}{' (required)' if parameter.required else ''}")
    shown = "\n".join(lines) + "\n"
    assert shown == FROZEN.read_text(), f"if this is meant, tell it in CHANGELOG.md and write to {FROZEN}:\n{shown}"


@pytest.mark.parametrize("name", ALL)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]):
    assert run([*name.split()[1:], "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: {name}" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert "--json" in shown


def test_help_answers_in_half_a_second():
    took = []
    for _ in range(10):
        start = time.perf_counter()
        shown = subprocess.run([sys.executable, "-m", "vaprompt", "--help"], check=True, capture_output=True, text=True)
        took.append(time.perf_counter() - start)
        if took[-1] < 0.5:
            break
    assert "demo" in shown.stdout
    assert min(took) < 0.5


def test_help_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'transformers', 'open_clip', 'zarr', 'matplotlib', 'av', 'pydantic'}"
    script = f"import sys, vaprompt.cli.main; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vaprompt ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["train"],
        ["train", "a.zarr"],
        ["evaluate", "run", "--split", "tset"],
        ["synth", "--video", "3"],
        ["synth", "drawn", "--videos", "2"],
        ["demo", "drawn", "--epochs", "0"],
        ["train", "a.zarr", "--run"],
        ["store", "infi"],
    ],
)
def test_a_wrong_call_exits_with_2_and_says_in_one_line_what_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("vaprompt: ")
    assert line.endswith("--help")


def test_an_empty_argument_is_refused_and_no_path_to_here(capsys: pytest.CaptureFixture[str]):
    assert run(["data", "check", ""]) == 2
    assert capsys.readouterr().err.startswith("vaprompt: vaprompt data check '': an argument is empty; ")
    assert run(["evaluate", "runs/first", "--out="]) == 2
    assert "--out=: an argument is empty; " in capsys.readouterr().err


def test_a_folder_that_is_gone_is_no_place_to_start_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "vaprompt: the folder that this was started in is no more; cd to one that exists, and run it there\n"
    )


def test_results_that_cannot_be_printed_are_the_disks_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    assert run(["--version"]) == 2
    line = "what is printed: cannot be written (No space left on device); make room on that disk"
    assert capsys.readouterr().err == f"vaprompt: {line}\n"


def test_a_closed_stdout_is_taken_by_no_file_of_ours():
    """Another file would get its number, and what is printed."""
    source = (
        "from vaprompt.cli.main import _open_streams as f; f(); import os; print(1); os.write(2, b'%d' % os.dup(0))"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&-', sys.executable, source], stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, int(done.stderr) > 2) == (0, True), done.stderr


def test_a_group_of_commands_alone_shows_what_there_is(capsys: pytest.CaptureFixture[str]):
    assert run(["store"]) == 2
    assert "  verify " in capsys.readouterr().err


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", lambda **options: fail(**options))


def test_a_users_mistake_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    failing(monkeypatch, StoreError("a.zarr", fault="is\n damaged", remedy="extract again"))
    assert run([]) == 2
    assert capsys.readouterr() == ("", "vaprompt: a.zarr: is damaged; extract again\n")


def test_our_mistake_is_one_line_with_the_traceback_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("VAPROMPT_TRACEBACK", raising=False)
    failing(monkeypatch, ZeroDivisionError("division\nby zero"))
    assert run([]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    (log,) = tmp_path.iterdir()
    assert "ZeroDivisionError: division by zero" in shown
    assert str(log) in shown
    assert "Traceback" in log.read_text()


def test_the_traceback_is_shown_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("VAPROMPT_TRACEBACK", "1")
    failing(monkeypatch, ZeroDivisionError("division"))
    assert run([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_130_and_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vaprompt.report.health.examine", interrupted)
    assert run(["doctor"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "vaprompt: interrupted; the same command goes on from here"


def test_an_interrupt_while_the_program_is_loaded_ends_with_130_and_one_line():
    script = """
import os, signal, sys
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "vaprompt.cli.output":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Impatient())
from vaprompt.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "vaprompt: interrupted\n")


def test_an_interrupt_while_the_commands_are_put_together_ends_with_130_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.main.get_params_from_function", interrupted)
    assert run(["doctor"]) == 130
    assert capsys.readouterr().err == "vaprompt: interrupted; the same command goes on from here\n"


def test_doctor_finds_what_the_demo_needs(capsys: pytest.CaptureFixture[str]):
    code = run(["doctor", "--json"])
    shown = json.loads(capsys.readouterr().out)
    states = {finding["subject"]: finding["state"] for finding in shown["findings"]}
    assert code == (0 if shown["healthy"] else 3)
    assert states["python"] == states["imports"] == states["recipes"] == "ok"
    assert states["extract/demo.toml, image"] == states["extract/demo.toml, audio"] == "ok"
    assert all(finding["remedy"] for finding in shown["findings"] if finding["state"] != "ok")
