"""Runs workers over damaged files and gathers what came of them, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
"""Time for one file, all entry points together; most take a twentieth of a second."""
ADDRESSES = 4 * 2**30
"""Bytes of addresses a worker may have: a safety net for this machine, far above what is asserted."""
WORKERS = 2
TIMES = int(os.environ.get("VAPROMPT_FUZZ", "1"))
"""So many times the usual number of files are made, for a longer look."""


@dataclass
class Findings:
    """What came of all files."""

    read: int = 0
    """Answers that were results."""
    refused: int = 0
    """Answers that were one line."""
    faults: list[str] = field(default_factory=list)
    """Everything else: tracebacks, crashes, hangs."""
    given_up: list[str] = field(default_factory=list)
    """Lines that say that a decoder hung."""
    peak: int = 0
    """Most bytes of memory that a worker held."""
    slowest: float = 0.0
    """Seconds."""


def run(kind: str, files: Sequence[Path]) -> Findings:
    """Read files in two processes at once."""
    findings = Findings()
    with ThreadPoolExecutor(WORKERS) as pool:
        for part in pool.map(lambda part: _run(kind, part), [list(files[first::WORKERS]) for first in range(WORKERS)]):
            findings.read += part.read
            findings.refused += part.refused
            findings.faults += part.faults
            findings.given_up += part.given_up
            findings.peak = max(findings.peak, part.peak)
            findings.slowest = max(findings.slowest, part.slowest)
    return findings


def _run(kind: str, files: list[Path]) -> Findings:
    findings = Findings()
    while files:
        command = [sys.executable, "-m", "tests.fuzz.worker", kind, str(SECONDS), str(ADDRESSES), *map(str, files)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "VAPROMPT_PATIENCE": str(SECONDS / 3)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        begun = [line["file"] for line in lines if "file" in line]
        for file, line in zip(begun, (line for line in lines if "said" in line), strict=False):
            _note(findings, file, line)
        finished = sum("said" in line for line in lines)
        if done.returncode == 0 and done.stderr:
            findings.faults.append(f"said on the screen: {done.stderr[-2000:]}")
        if finished == len(files):
            break
        if not begun or len(begun) == finished:
            findings.faults.append(f"the worker did not begin ({done.returncode}): {done.stderr[-2000:]}")
            break
        findings.faults.append(f"{begun[-1]}: the process ended with {done.returncode}: {done.stderr[-3000:]}")
        files = files[finished + 1 :]
    return findings


def _note(findings: Findings, file: str, line: dict) -> None:
    findings.peak = max(findings.peak, line["peak"])
    findings.slowest = max(findings.slowest, line["seconds"])
    for name, said in line["said"].items():
        if said == "read":
            findings.read += 1
        elif said.startswith("refused: "):
            findings.refused += 1
            if "nothing was decoded for" in said:
                findings.given_up.append(f"{name}({file}): {said}")
        else:
            findings.faults.append(f"{name}({file}): {said}")
