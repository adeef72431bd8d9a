"""Calling the command line in this process."""

import contextlib
import io
import json
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
