"""Memory that does not suffice is one line that says what to lower, wherever it ends; the failures are real ones."""

import mmap
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.calling import call
from tests.media.clips import write_clip
from tests.prediction import cheap
from vaprompt.errors import RunError
from vaprompt.memory import enough_memory

TOO_MUCH = 2**55
"""Bytes: more than any machine has addresses for."""


def of_torch(*_: object, **__: object) -> object:
    return torch.empty(TOO_MUCH, dtype=torch.uint8)


def of_numpy() -> object:
    return np.empty(TOO_MUCH, np.uint8)


def of_python() -> object:
    return bytearray(TOO_MUCH)


def of_the_system() -> object:
    return mmap.mmap(-1, TOO_MUCH)


@pytest.mark.parametrize("take", [of_torch, of_numpy, of_python, of_the_system])
def test_whoever_runs_out_of_memory_it_is_one_line(take):
    said = r"^run: memory does not suffice \(.+\); take less$"
    with pytest.raises(RunError, match=said), enough_memory(Path("run"), remedy="take less"):
        take()


@pytest.mark.parametrize(
    "error", [RuntimeError("sizes differ"), FileNotFoundError(2, "no such file"), ValueError("no")]
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, enough_memory(Path("run"), remedy="take less"):
        raise error
    assert raised.value is error


def test_what_had_been_taken_is_let_go():
    """A sweep trains one after the other what did not fit as a stack, while it still holds the stack's error."""
    taken = []

    def take() -> object:
        much = torch.zeros(10)
        taken.append(weakref.ref(much))
        return of_torch()

    with pytest.raises(RunError) as raised, enough_memory(Path("run"), remedy="take less"):
        take()
    assert taken[0]() is None
    assert raised.value.where == Path("run")


LIMITED = """
import resource, sys
import torch
import vaprompt.training.run
from vaprompt.cli.main import run
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * 2**30,) * 2)
sys.exit(run(sys.argv[1:]))
"""


def test_a_network_that_does_not_fit_is_one_line(small_store, tmp_path):
    wide = ["--set", "model.temporal.units=4096", "--set", "model.temporal.layers=8"]
    command = [sys.executable, "-c", LIMITED, "train", small_store, "--run", tmp_path / "run", "--device", "cpu", *wide]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"vaprompt: {tmp_path / 'run'}: memory does not suffice (")
    assert "lower compute.at_once, batch, model.width" in last


@pytest.mark.parametrize("place", ["run.Resident", "run.prototypes_of", "run.Optimiser", "ongoing.save_weights"])
def test_so_it_is_wherever_a_training_runs_out_of_it(small_store, tmp_path, monkeypatch, place):
    monkeypatch.setattr(f"vaprompt.training.{place}", of_torch)
    done = call("train", small_store, "train/demo.toml", "--run", tmp_path / "run", "--device", "cpu")
    assert done.code == 2
    assert f"{tmp_path / 'run'}: memory does not suffice" in done.fault
    assert "--memory 2GB" in done.fault


@pytest.mark.parametrize("place", ["ensemble.load_run", "evaluate.judge_split", "evaluate.write_evaluation"])
def test_so_it_is_wherever_scoring_runs_out_of_it(small_run, tmp_path, monkeypatch, place):
    monkeypatch.setattr(f"vaprompt.evaluation.{place}", of_torch)
    done = call("evaluate", small_run, "--out", tmp_path, "--device", "cpu")
    assert done.code == 2
    assert f"{small_run}: memory does not suffice" in done.fault
    assert "end what else needs memory" in done.fault


@pytest.mark.parametrize("place", ["load_run", "image_encoder", "predict_subjects"])
def test_so_it_is_wherever_a_prediction_runs_out_of_it(tmp_path, monkeypatch, place):
    cheap.use(monkeypatch)
    monkeypatch.setattr(f"vaprompt.prediction.predict.{place}", of_torch)
    clip = write_clip(tmp_path / "a.mp4", times_ms=range(0, 400, 40))
    done = call("predict", "cheap", clip, "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 2
    assert "cheap: memory does not suffice" in done.fault
    assert "end what else needs memory" in done.fault


def test_so_it_is_where_a_fold_is_scored(small_store, tmp_path, monkeypatch):
    monkeypatch.setattr("vaprompt.evaluation.crossvalidation.train", lambda *_, **__: None)
    monkeypatch.setattr("vaprompt.evaluation.crossvalidation.load_run", of_torch)
    done = call("crossvalidate", small_store, "train/demo.toml", "--folds", "3", "--out", tmp_path, "--device", "cpu")
    assert done.code == 2
    assert f"{tmp_path / 'fold1'}: memory does not suffice" in done.fault


@pytest.mark.parametrize("take", [of_torch, of_numpy, of_python, of_the_system])
def test_so_it_is_where_nobody_thought_of_it(tmp_path, monkeypatch, take):
    monkeypatch.setattr("vaprompt.report.leaderboard.leaderboard", lambda *_, **__: take())
    done = call("runs", tmp_path)
    assert done.code == 2
    assert done.fault.startswith("vaprompt: memory does not suffice (")
