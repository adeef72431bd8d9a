"""A folder of damaged videos through the whole of stage 1: what is whole is extracted, the rest is listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.calling import call
from tests.fuzz.mutate import boxes, mutants
from tests.fuzz.run import ROOT, TIMES
from tests.media.clips import write_clip

WHOLE, SEED = 3, 77
CHEAP = (
    *("image.model=embedded", "image.weights=random:0", "audio.model=embedded", "audio.weights=random:0"),
    *("audio.window=1.0", "audio.hop=0.5", "audio.steps=4", "image_rate=5"),
)
HANGING = """
import os, sys
from pathlib import Path
from vaprompt.cli.main import run
from vaprompt.media import audio, video

pipe = sys.argv[1]
packets = video.packets

def hanging(container, stream, path, pulse):
    for number, packet in enumerate(packets(container, stream, path, pulse)):
        if number == 3 and path.stem == "damaged00":
            os.open(pipe, os.O_RDONLY)  # nobody writes: the system itself waits, for ever
        yield packet

video.packets = audio.packets = hanging
sys.exit(run(sys.argv[2:]))
"""


def _dataset(root: Path, damaged: list[bytes], whole: bytes) -> list[str]:
    videos = root / "videos"
    videos.mkdir(parents=True)
    rows = ["video,time,valence,arousal,split"]
    contents = {f"whole{number}": whole for number in range(WHOLE)}
    contents |= {f"damaged{number:02d}": content for number, content in enumerate(damaged)}
    for name, content in contents.items():
        (videos / f"{name}.mp4").write_bytes(content)
        rows += [f"{name}.mp4,{time / 10},0.1,-0.2,train" for time in range(10)]
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "mine.toml").write_text(
        'name = "mine"\nlayout = "csv"\nroot = "."\n[labels]\npath = "labels.csv"\nlabel_range = [-1, 1]\n'
    )
    return list(contents)


def _clip(folder: Path) -> bytes:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 1))
    return write_clip(folder / "whole.mp4", times_ms=range(0, 1000, 100), sound=sound, sound_rate=16000).read_bytes()


def _extract(root: Path, *before: str) -> subprocess.CompletedProcess[str]:
    options = [part for value in CHEAP for part in ("--set", value)]
    command = [sys.executable, *before, "extract", str(root / "mine.toml"), "extract/demo.toml", *options]
    command += ["--store", str(root / "store.zarr"), "--json"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def _check(root: Path, names: list[str], done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 3, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert sorted([*report["done"], *report["failed"]]) == sorted(names)
    assert {f"whole{number}" for number in range(WHOLE)} <= set(report["done"])
    for reason in report["failed"].values():
        assert "\n" not in reason
        assert "; " in reason, "the line ends with the remedy"
    assert call("store", "info", root / "store.zarr", "--json").json["failed"] == report["failed"]
    return dict(report["failed"])


def _go(root: Path, count: int) -> None:
    whole = _clip(root)
    names = _dataset(root / "data", list(mutants(whole, boxes, count, SEED)), whole)
    failed = _check(root / "data", names, _extract(root / "data", "-m", "vaprompt"))
    assert len(failed) > count / 4, "the damage does none"


@pytest.mark.slow
def test_an_extraction_of_damaged_videos_lists_them_and_takes_the_rest(tmp_path):
    _go(tmp_path, 16 * TIMES)


@pytest.mark.slow
def test_a_video_whose_decoder_hangs_fails_alone_and_the_program_ends(tmp_path, monkeypatch):
    whole = _clip(tmp_path)
    names = _dataset(tmp_path / "data", [whole], whole)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("VAPROMPT_PATIENCE", "2")
    done = _extract(tmp_path / "data", "-c", HANGING, str(tmp_path / "pipe"))
    failed = _check(tmp_path / "data", names, done)
    assert list(failed) == ["damaged00"]
    assert "nothing was decoded for 2 s" in failed["damaged00"]
