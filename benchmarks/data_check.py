"""Measures `vaprompt data check` on a tree with the real data set's counts: 594 videos and three million empty crops.

    python benchmarks/data_check.py [--folder FOLDER] [--out benchmarks/data_check.json]

The tree is made in FOLDER (a temporary one by default; it takes minutes and three million inodes) and removed. Time and
memory are those of the whole command, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.datasets.official import write_tree


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        report = measure(Path(folder) / "data")
    print(json.dumps(report, indent=2))
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(root: Path) -> dict[str, object]:
    """Return the seconds and megabytes of one check, and how many crops it saw."""
    write_tree(root)
    command = [sys.executable, "-m", "vaprompt", "data", "check", str(root), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the command is ours
    seconds = time.perf_counter() - start
    splits = json.loads(done.stdout)["splits"].values()
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "videos": sum(split["videos"] for split in splits),
        "crops": sum(split["crops"]["present"] for split in splits),
        "seconds": round(seconds, 1),
        "megabytes": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
