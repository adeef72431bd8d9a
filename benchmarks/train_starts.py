"""Runs `vaprompt train` as a user does, and tells when its first step begins and how much memory it holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROBE = """
import os, re, sys, time
began, most = float(sys.argv.pop(1)), int(sys.argv.pop(1))
from vaprompt.training import data, step
from vaprompt.training.keeping import settle
def tell():
    # Not ru_maxrss, which begins at what the process that started this one held.
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr, flush=True)
def counted(kind):
    work, done = kind.__call__, [0]
    def call(self, row_B):
        if done[0] == most:
            print("LAST", time.time() - began, file=sys.stderr, flush=True)
            settle()
            tell()
            os._exit(0)
        done[0] += 1
        return work(self, row_B)
    kind.__call__ = call
gathered, firsts = data.Features.gathered, []
def first(self, *rows):
    found = gathered(self, *rows)
    if not firsts:  # what the step computes with is there, however long it had to wait for that
        firsts.append(time.time() - began)
        print("FIRST", firsts[0], file=sys.stderr, flush=True)
    return found
data.Features.gathered = first
counted(step.SharedStep)
counted(step.WholeStep)
from vaprompt.cli.main import run
code = run(sys.argv[1:])
tell()
sys.exit(code)
"""


def probe(arguments: Sequence[object], cache: Path, most: int) -> dict[str, float]:
    """Return when a command's first step began, and the last was done, how long it took, and the most memory it held.

    It is ended after `most` steps.
    """
    began = time.time()
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROBE, str(began), str(most), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "VAPROMPT_CACHE": str(cache)},
    ).stderr
    whole = time.time() - began
    said = {key: float(value) for key, _, value in (line.partition(" ") for line in told.splitlines()) if key.isupper()}
    return {
        "first_step_s": round(said["FIRST"], 2),
        **({"last_step_s": round(said["LAST"], 2)} if "LAST" in said else {}),
        "whole_s": round(whole, 1),
        "peak_gb": round(said["PEAK"] * 1024 / 1e9, 2),
    }


def forget(*folders: Path) -> None:
    """Let the system forget the files in some folders."""
    os.sync()
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reading_s(folder: Path) -> float:
    """Return the seconds in which the disk gives all files in a folder, four at a time, and forget them again."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    forget(folder)
    start = time.perf_counter()
    with ThreadPoolExecutor(4) as readers:
        for _ in readers.map(_read, files):
            pass
    seconds = time.perf_counter() - start
    forget(folder)
    return round(seconds, 2)


def _read(file: Path) -> None:
    buffer = bytearray(2**22)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass
