"""A training that is killed, or trained by two, ends with the bytes of an undisturbed one, or says what is damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.small import contents, names, recipe
from vaprompt import load_run
from vaprompt.errors import RunError, StoreError, TargetError
from vaprompt.files import held
from vaprompt.progress import Silent
from vaprompt.training import ongoing
from vaprompt.training.run import train

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads({threads})
from vaprompt.training import ongoing, run
from tests.training.small import recipe
ongoing.SAVING = 0
place = run if hasattr(run, "{function}") else ongoing
saves = 0
original = place.{function}
def dying(*arguments, **named):
    global saves
    saves += 1
    result = original(*arguments, **named)
    if saves == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
place.{function} = dying
run.train(Path(sys.argv[1]), recipe(), Path(sys.argv[2]), device="cpu")
"""


@pytest.mark.parametrize(
    ("function", "at"),
    [
        ("save_state", 2),
        ("train_epoch", 4),
        ("shutil.copyfile", 1),
        pytest.param("save_weights", 1, marks=pytest.mark.slow),
        pytest.param("write_json", 1, marks=pytest.mark.slow),
        pytest.param("write_recipe", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_like_an_undisturbed_one(store, undisturbed, tmp_path, function, at):
    run = tmp_path / "run"
    code = KILLED.format(function=function, at=at, threads=torch.get_num_threads())
    killed = subprocess.run([sys.executable, "-c", code, store, run], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((run / "run.json").read_text())["status"] == "training"
    with pytest.raises(RunError, match=r"checkpoint|not finished"):
        load_run(run)
    result = train(store, recipe(), run, device="cpu", resume=True)
    assert result.trained
    assert contents(run) == contents(undisturbed)
    assert names(run) == names(undisturbed)


def test_what_one_that_is_killed_at_the_very_end_leaves_is_cleared_away(store, undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for name in ("resume.safetensors", "best-6.safetensors"):
        (run / name).write_bytes(b"left")
    assert not train(store, recipe(), run, device="cpu").trained
    assert names(run) == names(undisturbed)


def test_a_training_killed_at_any_time_ends_like_an_undisturbed_one(store, undisturbed, tmp_path):
    run = tmp_path / "run"
    code = KILLED.format(function="train", at=-1, threads=torch.get_num_threads())
    process = subprocess.Popen([sys.executable, "-c", code, store, run], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.07)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train(store, recipe(), run, device="cpu")
    assert contents(run) == contents(undisturbed)


def test_scores_are_those_of_the_weights_though_a_replay_gains_otherwise(store, tmp_path, monkeypatch):
    """What gained before a kill may not gain when it is trained again, as on another processor."""
    run = tmp_path / "run"  # by this seed the second epoch gains, and then the fourth

    def killing(_, history):
        if len(history) == 2:  # no state is kept behind the second epoch's
            monkeypatch.setattr(ongoing, "SAVING", 1e9)
        if len(history) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(ongoing, "SAVING", 0)
    with pytest.raises(KeyboardInterrupt):
        train(store, recipe(seed=3), run, device="cpu", watch=killing)
    assert sorted(path.name for path in run.glob("best-*")) == ["best-2.safetensors", "best-4.safetensors"]
    with monkeypatch.context() as patched:
        patched.setattr(ongoing, "predict_windows", lambda _, unseen: np.zeros((len(unseen.windows), 2), np.float32))
        result = train(store, recipe(seed=3), run, device="cpu", resume=True)
    assert (result.best_epoch, result.epochs) == (2, 6)
    train(store, recipe(seed=3, epochs=2), tmp_path / "two", device="cpu")
    assert contents(run)["checkpoint.safetensors"] == contents(tmp_path / "two")["checkpoint.safetensors"]
    assert names(run) == names(tmp_path / "two")


@pytest.mark.parametrize(
    ("damage", "said"), [(Path.unlink, "is missing"), (lambda path: os.truncate(path, 1000), "is not a whole .*")]
)
def test_a_best_that_is_gone_or_cut_is_named_and_not_gone_on_from(store, tmp_path, monkeypatch, damage, said):
    def killing(*_):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    monkeypatch.setattr(ongoing, "SAVING", 0)
    with pytest.raises(KeyboardInterrupt):
        train(store, recipe(epochs=2), run, device="cpu", watch=killing)
    damage(run / "best-1.safetensors")
    there = names(run)
    with pytest.raises(
        RunError,
        match=rf"best-1\.safetensors: {said}, and resume\.safetensors names it; delete resume\.safetensors beside it",
    ):
        train(store, recipe(epochs=2), run, device="cpu")
    assert names(run) == there
    (run / "resume.safetensors").unlink()
    train(store, recipe(epochs=2), run, device="cpu")
    train(store, recipe(epochs=2), tmp_path / "whole", device="cpu")
    assert contents(run) == contents(tmp_path / "whole")


def test_a_damaged_state_says_how_to_begin_anew_and_that_helps(store, undisturbed, tmp_path, monkeypatch):
    def killing(*_):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(ongoing, "SAVING", 0)
        with pytest.raises(KeyboardInterrupt):
            train(store, recipe(), run, device="cpu", watch=killing)
    os.truncate(run / "resume.safetensors", 1000)
    with pytest.raises(RunError, match=r"resume\.safetensors: is not a whole .*; delete it: the same command then"):
        train(store, recipe(), run, device="cpu")
    (run / "resume.safetensors").unlink()
    train(store, recipe(), run, device="cpu")
    assert contents(run) == contents(undisturbed)


def test_one_that_was_killed_before_it_kept_a_state_is_trained_once_a_damaged_store_is_mended(
    store, undisturbed, tmp_path
):
    def killing(*_):
        raise KeyboardInterrupt

    run, damaged = tmp_path / "run", shutil.copytree(store, tmp_path / "store.zarr")
    with pytest.raises(KeyboardInterrupt):
        train(damaged, recipe(), run, device="cpu", watch=killing)
    assert "metrics.jsonl" in names(run)
    chunk = next(path for path in sorted((damaged / "image").rglob("embedding/c/**/*")) if path.is_file())
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-8] + b"xxxxxxxx")
    with pytest.raises(StoreError):
        train(damaged, recipe(), run, device="cpu")
    assert not run.exists()
    chunk.write_bytes(whole)
    train(damaged, recipe(), run, device="cpu")
    assert contents(run) == contents(undisturbed)


def test_weights_that_a_user_put_into_a_run_stay(undisturbed, store, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    (run / "best-mine.safetensors").write_text("mine")
    assert not train(store, recipe(), run, device="cpu").trained
    assert (run / "best-mine.safetensors").read_text() == "mine"


def test_two_trainings_of_one_run_do_not_mix(store, tmp_path):
    with held(tmp_path / "run"), pytest.raises(TargetError, match="another process is writing"):
        train(store, recipe(epochs=1), tmp_path / "run", device="cpu")
    train(store, recipe(epochs=1), tmp_path / "run", device="cpu")


def test_what_another_process_completed_meanwhile_is_not_trained_once_more(store, undisturbed, tmp_path):
    class Overtaken(Silent):
        def task(self, name, total=None, unit=""):
            if name == "reading the store":
                shutil.copytree(undisturbed, tmp_path / "run")
            return super().task(name, total, unit)

    assert not train(store, recipe(), tmp_path / "run", device="cpu", progress=Overtaken()).trained
    assert contents(tmp_path / "run") == contents(undisturbed)


def test_resume_without_a_training_and_strange_folders_are_refused(store, tmp_path):
    with pytest.raises(RunError, match="holds nothing to resume"):
        train(store, recipe(), tmp_path / "none", device="cpu", resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        train(store, recipe(), tmp_path / "full", device="cpu")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(TargetError, match="cannot be written"):
        train(store, recipe(epochs=1), tmp_path / "file" / "run", device="cpu")
