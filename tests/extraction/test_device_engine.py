"""Several devices, each with a process of its own: the store is the same, whatever becomes of the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.extraction.conftest import TINY, files_below
from vaprompt.errors import TargetError, VapromptError
from vaprompt.extraction import device_engine, local
from vaprompt.extraction.device_engine import seen_alone
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.stages import log_file
from vaprompt.progress import Silent

DEVICES = ["cpu", "cpu:0"]


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """Let processors have processes, too."""
    monkeypatch.setattr(local, "process_each", lambda devices: len(devices) > 1)


def processes(parent: int) -> list[int]:
    """Return the processes for devices that a process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if int(stat.rpartition(")")[2].split()[1]) == parent and b"device_process" in command:
                found.append(int(folder.name))
    return found


def logged(store: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.slow
def test_the_store_is_the_one_that_this_process_writes(dataset, recipe, store, tmp_path):
    target = tmp_path / "s.zarr"
    report = extract(dataset, recipe, target, device=DEVICES)
    assert report.done == [video.name for video in dataset.videos]
    assert files_below(target) == files_below(store)
    assert sorted(line["devices"] for line in logged(target, "worker")) == [["cpu"], ["cpu:0"]]
    stages = logged(target, "stages")
    assert len(stages) == 2
    assert all(line["items"]["images"] > 0 for line in stages)
    assert processes(os.getpid()) == []
    assert not (target / ".leases").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_costs_nothing_but_time(dataset, recipe, store, tmp_path):
    class Killer(Silent):
        def __init__(self):
            self.said: list[str] = []

        @contextmanager
        def task(self, name, total=None, unit=""):
            yield self

        def advance(self, amount=1, note=""):
            if amount and not self.said:
                os.kill(processes(os.getpid())[0], signal.SIGKILL)

        def say(self, line):
            self.said.append(line)

    target, killer = tmp_path / "s.zarr", Killer()
    report = extract(dataset, recipe, target, device=DEVICES, progress=killer)
    assert report.done == [video.name for video in dataset.videos]
    assert files_below(target) == files_below(store)
    assert any("ended by itself (exit code -9)" in line for line in killer.said)
    assert logged(target, "lost")[0]["exit_code"] == -9


@pytest.mark.slow
def test_decoders_that_are_asked_for_are_shared_among_the_processes(dataset, recipe, store, tmp_path, monkeypatch):
    monkeypatch.setenv("VAPROMPT_DECODERS", "5")
    target = tmp_path / "s.zarr"
    extract(dataset, recipe, target, device=DEVICES)
    assert [(line["readers"], line["decoders"]) for line in logged(target, "worker")] == [(2, "processes")] * 2
    assert files_below(target) == files_below(store)


@pytest.mark.slow
def test_a_video_that_fails_is_told_with_its_reason(own, recipe, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(b"no video")
    broken = replace(own, videos=(replace(own.videos[0], media=tmp_path / "cut.mp4"), *own.videos[1:]))
    report = extract(broken, recipe, tmp_path / "s.zarr", device=DEVICES)
    assert list(report.failed) == [own.videos[0].name]
    assert "cut.mp4" in report.failed[own.videos[0].name]
    assert report.done == [video.name for video in own.videos[1:]]


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(root, tmp_path):
    script = f"""
from pathlib import Path
from vaprompt.datasets.description import open_dataset
from vaprompt.extraction import local
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.recipes import read_recipe
local.process_each = lambda devices: True
recipe = read_recipe(ExtractRecipe, overrides={TINY!r})
extract(open_dataset(Path({str(root)!r})), recipe, Path({str(tmp_path / "s.zarr")!r}), device={DEVICES!r})
"""
    running = subprocess.Popen([sys.executable, "-c", script])
    started: list[int] = []
    until = time.monotonic() + 60
    while len(started) < 2 and time.monotonic() < until and running.poll() is None:
        started = processes(running.pid)
        time.sleep(0.05)
    assert len(started) == 2
    running.kill()
    running.wait()
    while any(Path(f"/proc/{one}").exists() for one in started) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{one}").exists() for one in started)


FULL = "vaprompt.errors.TargetError('s.zarr', fault='no space left', remedy='make room')"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [(FULL, TargetError, "s.zarr: no space left; make room"), ("KeyError('x')", RuntimeError, "KeyError: 'x'")],
)
def test_what_is_no_videos_fault_ends_the_run(dataset, recipe, tmp_path, monkeypatch, error, kind, told):
    raising = f"lambda *_: (_ for _ in ()).throw({error})"
    failing = f"import vaprompt.errors, vaprompt.extraction.engine as engine; engine.stored = {raising}; serve"
    monkeypatch.setattr(device_engine, "START", device_engine.START.replace("; serve", f"; {failing}"))
    with pytest.raises(kind, match=told):
        extract(dataset, recipe, tmp_path / "s.zarr", device=DEVICES)
    assert processes(os.getpid()) == []


HALF = (
    "import os, sys; from multiprocessing.connection import Connection; there = Connection(int(sys.argv[2])); "
    "there.recv_bytes(); os.write(there.fileno(), bytes((0, 0, 1, 0)) + b'half of a message')"
)


@pytest.mark.parametrize("script", ["pass", HALF])
def test_processes_that_do_not_begin_are_told_of(dataset, recipe, tmp_path, monkeypatch, script):
    monkeypatch.setattr(device_engine, "START", f"{script}; raise SystemExit(9)")
    with pytest.raises(VapromptError, match=r"--device cpu.*3 processes in a row .* \(exit code 9\)"):
        extract(dataset, recipe, tmp_path / "s.zarr", device=DEVICES)


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda:1", None, ("cuda:0", {"CUDA_VISIBLE_DEVICES": "1"})),
        ("cuda", None, ("cuda:0", {"CUDA_VISIBLE_DEVICES": "0"})),
        ("cuda:1", "5, GPU-77", ("cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-77"})),
        ("cpu:0", "5", ("cpu:0", {})),
    ],
)
def test_a_process_sees_no_other_gpu(device, visible, expected):
    assert seen_alone(device, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected
