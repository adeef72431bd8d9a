"""Reads damaged files in a process of its own, and prints what came of each; run by `tests.fuzz.run`.

Usage: python -m tests.fuzz.worker KIND SECONDS BYTES FILE...
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from vaprompt.errors import VapromptError

Entries = dict[str, Callable[[Path], object]]
ENTRIES = {
    "media": "tests.fuzz.entries_media",
    "pictures": "tests.fuzz.entries_media",
    "store": "tests.fuzz.entries_store",
}


def main(kind: str, seconds: str, memory: str, *files: str) -> None:
    """Give every file to every entry point of its kind."""
    module = importlib.import_module(ENTRIES[kind])
    entries: Entries = getattr(module, kind.upper())
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for file in files:
        print(json.dumps({"file": file}), flush=True)
        # What hangs, also where Python cannot be interrupted, ends the process and says where.
        faulthandler.dump_traceback_later(float(seconds), exit=True)
        start = time.monotonic()
        said = {name: _outcome(entry, Path(file)) for name, entry in entries.items()}
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"said": said, "seconds": time.monotonic() - start, "peak": _peak()}), flush=True)


def _peak() -> int:
    """Return the most bytes of memory held so far; the kernel's `ru_maxrss` would count the parent's, too."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _outcome(entry: Callable[[Path], object], path: Path) -> str:
    """Return `read`, `refused: ...` or the traceback."""
    try:
        entry(path)
    except VapromptError as error:
        line = str(error)
        return f"refused: {line}" if "\n" not in line else f"more than one line: {line!r}"
    except BaseException:
        return traceback.format_exc()
    return "read"


if __name__ == "__main__":
    main(*sys.argv[1:])
