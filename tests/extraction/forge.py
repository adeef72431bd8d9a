"""Extractions in processes of their own, quickly: one process imports everything and forks another for every order.

It reads orders as lines of JSON on stdin, and says on stdout who was begun and how they ended. The networks are tiny
fakes, the disk is not waited for. An extraction counts its *moments*, every call that changes the disk, and kills
itself with SIGKILL right before one of them if it is told to.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.extraction.conftest import TINY

FRAMES = 8


def tiny_dataset(root: Path, videos: int = 3):
    """Return a data set of short videos; the second last has no annotation, and the last cannot be decoded."""
    from vaprompt.datasets.base import Dataset, Video

    found = []
    for number in range(1, videos + 1):
        annotation = root / f"v{number}.txt"
        found.append(
            Video(
                f"v{number}",
                "test" if not annotation.exists() else "validation" if number == 1 else "train",
                root / f"v{number}.mp4",
                None,
                annotation if annotation.exists() else None,
            )
        )
    return Dataset("tiny", "affwild2", root, "frames", tuple(found))


def write_tiny(root: Path, videos: int = 3) -> Path:
    """Write the files of `tiny_dataset`."""
    import numpy as np

    from tests.media.clips import write_clip

    root.mkdir()
    for number in range(1, videos + 1):
        sound = np.sin(np.arange(3200) * 0.05 * number)[:, None] * 0.3
        media = root / f"v{number}.mp4"
        write_clip(media, times_ms=tuple(range(0, 40 * FRAMES, 40)), size=(32, 32), sound=sound, sound_rate=16000)
        if number < videos - 1 or number == 1:
            rows = "".join(f"0.{number},-0.{row}\n" for row in range(1, FRAMES + 1))
            (root / f"v{number}.txt").write_text(f"valence,arousal\n{rows}")
    media.write_bytes(b"no video")
    return root


class FakeImages:
    """Sees the mean colours, and reads the letters."""

    dim, fingerprint = 3, {}

    def __init__(self, delay: float) -> None:
        self.delay = delay

    def encode(self, image_BHWC):
        import torch

        time.sleep(self.delay)
        return torch.from_numpy(image_BHWC).float().mean((1, 2))

    def encode_text(self, texts):
        import torch

        return torch.tensor([[float(len(text)), float(text.count("a")), 1.0] for text in texts])


class FakeSounds:
    """Hears the mean and the loudness."""

    steps, dim, rate, fingerprint = 1, 2, 16000, {}

    def encode(self, wave_BL):
        import torch

        return torch.stack((wave_BL.mean(1), wave_BL.abs().mean(1)), dim=-1)[:, None]


def extract_as_told(order: Mapping[str, Any]) -> None:
    """Do one order in this process: extract, log what is written, and die when it is time to."""
    from vaprompt.extraction import local, pipeline
    from vaprompt.extraction.plan import Shard
    from vaprompt.extraction.recipe import ExtractRecipe
    from vaprompt.recipes import read_recipe
    from vaprompt.store import leases, writing

    leases.BEAT, leases.PATIENCE, leases.POLL = 0.05, order.get("patience", 60.0), 0.05
    if "machine" in order:
        seem_elsewhere(order["machine"], order["skew"])
    if "largest" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"], resource.RLIM_INFINITY))
    local.image_encoder = lambda *_: FakeImages(order.get("delay", 0.0))
    local.audio_encoder = lambda *_: FakeSounds()
    with Path(os.devnull if "largest" in order else order["log"]).open("a", buffering=1) as log:
        count_moments(order.get("kill"), log.write)
        begin = writing.GroupWriter.__init__

        def told(self, store, place, *rest, **more):
            log.write(f"writes {place}\n")
            begin(self, store, place, *rest, **more)

        writing.GroupWriter.__init__ = told
        report = pipeline.extract(
            tiny_dataset(Path(order["data"]), order.get("videos", 3)),
            read_recipe(ExtractRecipe, None, [*TINY, *order.get("changes", ())]),
            Path(order["store"]),
            shard=Shard.parse(order["shard"]) if "shard" in order else None,
            refresh=order.get("refresh", False),
            stream=order.get("stream"),
        )
        log.write(f"report {json.dumps(vars(report))}\n")


def seem_elsewhere(machine: str, skew: float) -> None:
    """Look like a process of another machine, whose clock is off by so many seconds."""
    from vaprompt.store import leases

    here, utime, moment = leases._here, os.utime, time.time_ns

    def beat(path: Path) -> None:
        stamp = moment() + int(skew * 1e9)
        utime(path, ns=(stamp, stamp))

    leases._here = lambda: {**here(), "host": machine, "space": machine}
    os.utime = beat


def count_moments(kill: int | str | None, log: Callable[[str], object]) -> None:
    """Number every call that changes the disk, log it, and die before number `kill`, or the first that it matches."""
    import shutil

    passed, counting = 0, threading.Lock()

    def watched(function, name: str, *, real: bool = True):
        def call(*arguments, **options):
            nonlocal passed
            described = f"{name} {' '.join(str(item) for item in arguments[:2])}"
            with counting:
                passed += 1
                if passed == kill or (isinstance(kill, str) and re.search(kill, described)):
                    os.kill(os.getpid(), signal.SIGKILL)
                log(f"moment {passed} {described}\n")
            return function(*arguments, **options) if real else None

        return call

    os.fsync = watched(os.fsync, "fsync", real=False)
    for name in ("rename", "replace", "unlink", "mkdir", "rmdir"):
        setattr(Path, name, watched(getattr(Path, name), name))
    os.open = watched(os.open, "open")
    shutil.rmtree = watched(shutil.rmtree, "rmtree")


@dataclass
class Forge:
    """The process that forks; `order` begins an extraction in it."""

    process: subprocess.Popen[str]

    def order(self, **order: Any) -> int:
        """Begin an extraction and return its process number."""
        self._say({key: str(value) if isinstance(value, Path) else value for key, value in order.items()})
        return int(self._hear()["begun"])

    def end(self, pid: int) -> int:
        """Wait for an extraction, and return its exit code, or minus the signal that killed it."""
        self._say({"wait": pid})
        return int(self._hear()["ended"])

    def _say(self, line: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def forge() -> Iterator[Forge]:
    """Start the process that forks, and stop it in the end."""
    command = [sys.executable, "-m", "tests.extraction.forge"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[2], env=environment
    ) as process:
        try:
            yield Forge(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def main() -> None:
    """Do the orders that come on stdin."""
    from vaprompt.errors import VapromptError
    from vaprompt.extraction import local, pipeline  # noqa: F401 - what takes long is imported once, for all
    from vaprompt.extraction.fingerprints import stream_fingerprints
    from vaprompt.extraction.recipe import ExtractRecipe
    from vaprompt.recipes import read_recipe

    stream_fingerprints(read_recipe(ExtractRecipe, None, TINY), "frames")
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            print(json.dumps({"ended": os.waitstatus_to_exitcode(status)}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            try:
                extract_as_told(order)
            except VapromptError as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                with Path(order["log"]).open("a") as log:
                    log.write(f"error {error}\n")
                os._exit(error.exit_code)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(json.dumps({"begun": pid}), flush=True)


if __name__ == "__main__":
    main()
