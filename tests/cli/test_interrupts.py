"""Ctrl-C reaches all processes of a terminal, those included that are only just starting."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTING = 0.3
"""Seconds after which a process that was started is in the middle of its imports, and later has not ended them."""


def interrupted(command: list[str | Path], count: int) -> tuple[int, str]:
    """Interrupt a program and its processes when it has started so many; return its exit code and what it said."""
    vaprompt = subprocess.Popen(
        [sys.executable, "-m", "vaprompt", *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        ended = time.monotonic() + 60
        while len(started_by(vaprompt.pid)) < count:
            assert time.monotonic() < ended
            assert vaprompt.poll() is None, vaprompt.communicate()[1]
            time.sleep(0.01)
        time.sleep(IMPORTING)
        os.killpg(vaprompt.pid, signal.SIGINT)
        _, said = vaprompt.communicate(timeout=60)
    finally:
        vaprompt.kill()
        vaprompt.wait()
    return vaprompt.returncode, said


def started_by(process: int) -> list[str]:
    """Return the processes that any thread of one has started and that have a command of their own by now."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        for child in listed.read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if command and b"resource_tracker" not in command and b"\0vaprompt\0" not in command:
                found.append(child)
    return found


def in_one_line(said: str) -> bool:
    traces = [word for word in ("Traceback", "KeyboardInterrupt") if word in said]
    return not traces and said.splitlines()[-1].startswith("vaprompt: interrupted")


def test_while_the_processes_that_draw_start(tmp_path: Path):
    code, said = interrupted(["synth", tmp_path / "data", "--videos", "4", "--seconds", "60"], 2)
    assert code == 130
    assert in_one_line(said), said


@pytest.mark.slow
def test_while_the_processes_that_train_a_sweep_start(small_store: Path, tmp_path: Path):
    described = tmp_path / "sweep.toml"
    described.write_text("[shared]\nwindow.frames = 8\n[grid]\nseed = [0, 1]\n")
    way = ["--runs", tmp_path / "runs", "--device", "cpu", "--workers", "2", "--stack", "never"]
    code, said = interrupted(["sweep", small_store, described, *way], 2)
    assert code == 130
    assert in_one_line(said), said


@pytest.mark.slow
def test_while_the_processes_that_load_windows_start(small_run: Path, small_dataset: Path, tmp_path: Path):
    tuning = ["--run", tmp_path / "tuned", "--device", "cpu", "--workers", "2"]
    code, said = interrupted(["finetune", small_run, small_dataset, *tuning], 2)
    assert code == 130
    assert in_one_line(said), said


def test_told_to_end_it_gives_back_what_it_holds(small_dataset: Path, tmp_path: Path):
    """As by a batch system, whose next task on another machine would have to wait until what is held has run out."""
    store = tmp_path / "store.zarr"
    words = [
        sys.executable,
        "-m",
        "vaprompt",
        "extract",
        small_dataset,
        "extract/demo.toml",
        "--store",
        store,
        "--json",
    ]
    extracting = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        ended = time.monotonic() + 60
        while not (tmp_path / "store.log.jsonl").exists():
            assert time.monotonic() < ended
            assert extracting.poll() is None, extracting.communicate()[1]
            time.sleep(0.01)
        assert list(store.glob(".leases/*"))
        extracting.terminate()
        _, said = extracting.communicate(timeout=60)
    finally:
        extracting.kill()
    assert extracting.returncode == 143
    assert said.splitlines()[-1] == "vaprompt: interrupted; the same command goes on from here"
    assert "Traceback" not in said
    assert not list(store.glob(".leases/*"))


def test_while_the_process_that_predicts_starts(small_run: Path, tmp_path: Path):
    code, said = interrupted(["serve", small_run, "--port", "0"], 1)
    assert "Traceback" not in said
    assert code in (0, 130)
