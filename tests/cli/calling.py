"""Calling the command line, in this process or in one of its own."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaprompt.cli.main import run


@dataclass(frozen=True)
class Call:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def fault(self) -> str:
        """The one line that says what went wrong."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("vaprompt: ")]
        assert self.err.splitlines()[-1] == line
        return line


def call(*arguments: str | Path) -> Call:
    """Run `vaprompt` with the arguments, and keep what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run([str(argument) for argument in arguments])
    return Call(code, out.getvalue(), err.getvalue())


def call_process(*arguments: str | Path) -> Call:
    """Run `vaprompt` as a user does, and keep what it prints.

    Types are not checked there, which makes drawing videos twenty times faster.
    """
    command = [sys.executable, "-m", "vaprompt", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return Call(done.returncode, done.stdout, done.stderr)
