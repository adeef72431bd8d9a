"""`vaprompt doctor`: what is installed, what it runs on, what is wrong and how to mend it."""

from __future__ import annotations

from pathlib import Path

import typer

from vaprompt.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, which device and weights are at hand, what is wrong and how to mend it.

    Exits with 0 when every command can work here, and with 3 when something is at fault. Weights of the paper's
    encoders that are not at hand are a remark, no fault: the demo has its own.

    Example: vaprompt doctor
    """
    from vaprompt.cli.output import print_json, print_lines, print_table
    from vaprompt.report.health import examine

    findings = list(examine(Path.cwd()))
    faults = [finding for finding in findings if finding.state == "fault"]
    if as_json:
        print_json({"healthy": not faults, "findings": findings})
    else:
        print_table(("", "what", "found"), [(_sign(item.state), item.subject, item.found) for item in findings])
        print_lines(f"{item.state}: {item.subject}: {item.found}; {item.remedy}" for item in findings if item.remedy)
        print_lines([f"{len(faults)} faults" if faults else "every command can work here"])
    raise typer.Exit(3 if faults else 0)


def _sign(state: str) -> str:
    return {"ok": "ok", "remark": "-", "fault": "!!"}[state]
