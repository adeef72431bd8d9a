"""Measures what grows with the number of videos: the index, `store info`, and an extraction that has nothing to do.

    python benchmarks/scaling.py [--markers 600 1800 6000 60000 600000] [--out benchmarks/scaling.json]

A store of Aff-Wild2's mean video is forged, marker by marker: three for each video, with the files that features of
5,050 frames and 179 s would have, and none of these files. Beside it lies a data set of as many media files of a few
bytes, of which the markers tell the truth, so that `extract` looks at everything and finds nothing to do. Commands are
timed as a user calls them, start of Python included; all figures are of warm caches. 600,000 markers take 7 GB of disk.
What one video costs besides its encoding, with all that it writes safely on the disk, is measured too. From both,
and from what `extract_gpu.py` measured on one GPU, follows by proportion what whole data sets take (`plans`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vaprompt.extraction.fingerprints import stream_fingerprints
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.recipes import read_recipe
from vaprompt.store import FeatureStore
from vaprompt.store.index import INDEX_FILE, read_index
from vaprompt.store.layout import GROUP_FILE, group_metadata
from vaprompt.store.leases import video_key
from vaprompt.store.storage import Folder

FRAMES, WINDOWS, SECONDS = 5050, 60, 179.0
FILES = {
    # Chunks of a MiB, as store/writing.py makes them: 1,024 frames, or 6 windows of 101 x 768.
    "image": {"embedding": 5, "frame": 1, "time": 1},
    "audio": {"embedding": 10, "end": 1},
    "labels": {"value": 1, "valid": 1, "time": 1},
}
COUNTS = {
    "image": {"frames": FRAMES, "encoded": FRAMES, "seconds": SECONDS},
    "audio": {"windows": WINDOWS, "seconds": SECONDS},
    "labels": {"frames": FRAMES, "valid": FRAMES, "seconds": SECONDS},
}
GPU = Path(__file__).with_name("extract_gpu.json")
"""What extraction on one GPU reached, whole pipeline, for `plans`."""
AFFWILD2 = 594
"""Videos, of 3.0 million frames and 29.5 hours of sound."""
PLANS = ((AFFWILD2, 1), (AFFWILD2, 8), (1000 * AFFWILD2, 8), (1000 * AFFWILD2, 64))
"""Videos, and the GPUs that encode them."""
MEDIA, ANNOTATION = b"a video\n", b"valence,arousal\n0.1,0.2\n"
QUICK = 10000
RECIPE = ("image.model=embedded", "image.weights=embedded", "audio.model=embedded", "audio.weights=embedded")

COMMAND = """
import json, re, sys
from vaprompt.cli.main import run
code = run(sys.argv[1:])
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"MB": peak // 1000}), file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--markers", type=int, nargs="+", default=[600, 1800, 6000, 60000, 600000])
    options.add_argument("--out", type=Path, help="rows of other sizes that it holds already stay")
    options.add_argument("--gpu", type=Path, default=GPU, help="what extract_gpu.py found, for the plans")
    options.add_argument("--folder", type=Path, help="forge here, and leave it: a second call measures alone")
    options.add_argument("--forge", action="store_true", help="measure nothing")
    options.add_argument("--alone", nargs=2, metavar=("ACTION", "STORE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.alone is not None:
        print(json.dumps(alone(given.alone[0], Path(given.alone[1]))))
        return
    rows = {}
    for markers in given.markers:
        with forged(given.folder, markers // 3) as folder:
            if not given.forge:
                rows[markers] = measure(folder, markers // 3)
                print(json.dumps(rows[markers]), file=sys.stderr, flush=True)
    if given.forge:
        return
    with tempfile.TemporaryDirectory() as folder:
        one = one_video(Path(folder))
    if given.out is not None and given.out.exists():
        rows = {row["markers"]: row for row in json.loads(given.out.read_text(encoding="utf-8"))["rows"]} | rows
    found = json.loads(given.gpu.read_text(encoding="utf-8"))
    speeds = {
        items: found[f"pipeline, {name}"]["per second"] for items, name in (("images", "crops"), ("clips", "sound"))
    }
    gpu = {"name": found["machine"]["accelerator"], **speeds}
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "zarr": version("zarr")},
        "video": {"frames": FRAMES, "windows of sound": WINDOWS, "seconds": SECONDS, "files": files_of_a_video()},
        "one video": one,
        "rows": [rows[markers] for markers in sorted(rows)],
        "GPU": gpu,
        "plans": [plan(videos, gpus, gpu, one, rows) for videos, gpus in PLANS],
    }
    print(json.dumps(report, indent=2))
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def plan(
    videos: int, gpus: int, gpu: Mapping[str, Any], one: Mapping[str, float], rows: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what so many videos take, in proportion to what was measured of the size that is nearest."""
    near = min(rows.values(), key=lambda row: abs(math.log(row["videos"] / videos)))
    times, encoding = videos / near["videos"], videos * (FRAMES / gpu["images"] + WINDOWS / gpu["clips"])
    return {
        "videos": videos,
        "GPUs": gpus,
        "encoding, hours": round(encoding / gpus / 3600, 3),
        "writing by one process, hours": round(videos * one["written, seconds"] / 3600, 3),
        "GB": round(videos * one["MB"] / 1000, 1),
        "files": videos * files_of_a_video(),
        "index, MB": round(times * near["index, bytes"] / 1e6, 1),
        "index build, seconds": round(times * near["index build"]["seconds"], 1),
        "store info, seconds": round(times * near["store info"]["seconds"], 1),
        "extract, nothing to do, seconds": round(times * near["extract, nothing to do"]["seconds"], 1),
        "extract, nothing to do, MB": round(times * near["extract, nothing to do"]["MB"]),
        "in proportion to markers": near["markers"],
    }


def one_video(folder: Path) -> dict[str, float]:
    """Return what a video of Aff-Wild2's mean length costs besides its encoding; the median of seven."""
    chance = np.random.default_rng(0)
    time_N, end_W = np.arange(FRAMES) / (FRAMES / SECONDS), np.arange(WINDOWS) * 3.0
    arrays: dict[str, dict[str, np.ndarray]] = {
        "image": {
            "embedding": chance.standard_normal((FRAMES, 512), np.float32).astype(np.float16),
            "frame": np.arange(1, FRAMES + 1, dtype=np.int32),
            "time": time_N,
        },
        "audio": {
            "embedding": chance.standard_normal((WINDOWS, 101, 768), np.float32).astype(np.float16),
            "end": end_W,
        },
        "labels": {"value": np.zeros((FRAMES, 2), np.float32), "valid": np.ones(FRAMES, np.bool_), "time": time_N},
    }
    store = FeatureStore.create(folder / "one.zarr", dataset={"name": "one", "layout": "none", "faces": "crops"})
    leasing, writing = [], []
    with store.writing() as leases:
        for number in range(7):
            start = time.perf_counter()
            assert leases.acquire(video_key(f"video{number}"))
            leased = time.perf_counter() - start
            for stream, columns in arrays.items():
                with store.writer(stream, f"video{number}", {"schema": 1}) as writer:
                    writer.append(**columns)
                    writer.publish({"split": "train", "counts": COUNTS[stream], "notes": []})
            writing.append(time.perf_counter() - start - leased)
            start = time.perf_counter()
            leases.release(video_key(f"video{number}"))
            leasing.append(leased + time.perf_counter() - start)
    files = (file for stream in arrays for file in (store.path / stream / "video0").rglob("*"))
    size = sum(file.stat().st_size for file in files if file.is_file())
    seconds = statistics.median(writing)
    return {
        "MB": round(size / 1e6, 2),
        "written, seconds": round(seconds, 4),
        "written, MB a second": round(size / 1e6 / seconds),
        "leased and given back, seconds": round(statistics.median(leasing), 5),
    }


def measure(folder: Path, videos: int) -> dict[str, Any]:
    """Return seconds and memory of everything at one size."""
    store, data = folder / "s.zarr", folder / "data"
    changes = [part for change in RECIPE for part in ("--set", change)]
    extract = ["extract", str(data), "--store", str(store), *changes]
    row: dict[str, Any] = {"videos": videos, "markers": 3 * videos}
    row["index build"] = in_a_process("build", store)
    row["index, bytes"] = (store / INDEX_FILE).stat().st_size
    row["index read"] = in_a_process("read", store)
    # Thrice where it is quick, as a moment's disturbance is as long.
    times = 3 if videos < QUICK else 1
    row["store info"] = best(times, "store", "info", str(store))
    row["extract, nothing to do"] = best(times, *extract)
    row["markers, bytes"] = sum((store / stream / "video0" / GROUP_FILE).stat().st_size for stream in FILES)
    return row


def best(times: int, *arguments: str) -> dict[str, float]:
    """Return what a command takes, the quickest of so many."""
    return min((command(*arguments) for _ in range(times)), key=lambda took: took["seconds"])


def in_a_process(action: str, store: Path) -> dict[str, float]:
    """Return what one call in a fresh process takes, without its start."""
    command = [sys.executable, __file__, "--alone", action, str(store)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout)
    return found


def alone(action: str, store: Path) -> dict[str, float]:
    """Do one thing, and return its seconds and what it added to the process's peak."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if action == "build":
        (store / INDEX_FILE).unlink(missing_ok=True)
        FeatureStore.open(store).write_index()
    else:
        assert read_index(Folder(store)) is not None
    seconds = time.perf_counter() - start
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": round(seconds, 3), "MB": added // 1000}


def command(*arguments: str) -> dict[str, float]:
    """Return what a command takes, in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if done.returncode or (arguments[0] == "extract" and not re.match(r"0 videos encoded, \d+ were", done.stdout)):
        raise SystemExit(f"{arguments}: {done.stdout}{done.stderr}")
    return {"seconds": round(seconds, 2), "MB": json.loads(done.stderr.splitlines()[-1])["MB"]}


@contextmanager
def forged(folder: Path | None, videos: int) -> Iterator[Path]:
    """Yield a folder with a forged store `s.zarr` and its data set `data`."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) if folder is None else folder / str(videos)
        if not (place / "forged").exists():
            place.mkdir(parents=True, exist_ok=True)
            forge(place / "s.zarr", place / "data", videos)
            (place / "forged").touch()
        yield place


def forge(store: Path, data: Path, videos: int) -> None:
    """Write a data set of so many videos, and the markers of the store that it would give."""
    recipe = read_recipe(ExtractRecipe, overrides=RECIPE)
    fingerprints = stream_fingerprints(recipe, "frames")
    dataset = {"name": data.name, "layout": "affwild2", "faces": "frames"}
    fsync, os.fsync = os.fsync, lambda descriptor: None  # the disk is not what is measured here
    target = FeatureStore.create(
        store, dataset=dataset, recipe=recipe.model_dump(mode="json"), fingerprints=fingerprints
    )
    target.write_text(dict.fromkeys(recipe.prompts.texts(), np.ones(64, np.float32)), fingerprints["text"])
    annotations, media = data / "annotations/Train_Set", data / "videos"
    annotations.mkdir(parents=True)
    media.mkdir()
    for number in range(videos):
        name = f"video{number}"
        facts = {
            "media": written(media / f"{name}.mp4", MEDIA),
            "annotation": written(annotations / f"{name}.txt", ANNOTATION),
        }
        for stream in FILES:
            source = facts if stream == "labels" else {"media": facts["media"]}
            group = store / stream / name
            group.mkdir()
            (group / GROUP_FILE).write_bytes(group_metadata(marker(stream, number, source)))
    os.fsync = fsync


def marker(stream: str, number: int, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of one video's stream, with digests unlike any other's."""
    files = {
        file: {"bytes": 1048580, "sha256": sha256(f"{stream} {number} {file}".encode()).hexdigest()}
        for name, chunks in FILES[stream].items()
        for file in (*(f"{name}/c/{chunk}/0" for chunk in range(chunks)), f"{name}/zarr.json")
    }
    return {
        "status": "done",
        "split": "train",
        "counts": COUNTS[stream],
        "notes": [],
        "source": dict(source),
        "files": files,
    }


def written(path: Path, content: bytes) -> dict[str, Any]:
    """Write a source file, and return what an extraction would say of it."""
    path.write_bytes(content)
    state = path.stat()
    digest = sha256(content).hexdigest()
    return {"name": path.name, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": digest}


def files_of_a_video() -> int:
    """Return how many files a video has in a store: chunks, an array's metadata for each, markers."""
    return sum(sum(arrays.values()) + len(arrays) + 1 for arrays in FILES.values())


if __name__ == "__main__":
    main()
