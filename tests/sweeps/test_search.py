"""A search goes on where it was stopped with the very trials of one that was not, and ends early what lies behind."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.listening import Watching
from tests.planted import plant_store
from tests.sweeps.conftest import SEARCH, SHARED, described, tried
from vaprompt.errors import RunError, TargetError
from vaprompt.store import leases
from vaprompt.sweeps import search, work
from vaprompt.sweeps.sweep import run_sweep
from vaprompt.training import ongoing
from vaprompt.training.run import train

ROOT = Path(__file__).parents[2]


def test_trials_lie_within_their_ranges_and_the_best_comes_first(searched):
    assert len(searched.found) == 5
    for one in searched.found:
        recipe = one.variant.recipe
        assert 0 <= recipe.loss.kl <= 1
        assert 1e-6 <= recipe.optimiser.learning_rate <= 1e-2
        assert recipe.model.head.hidden % 8 == 0
        assert recipe.model.fusion.kind in ("attention", "gated")
        assert set(one.fields) <= {"loss.kl", "optimiser.learning_rate", "model.head.hidden", "model.fusion.kind"}
    scores = [one.best["mean"] for one in searched.found if one.state == "done"]
    assert scores == sorted(scores, reverse=True)
    assert len({one.variant.recipe for one in searched.found}) == 5


def test_a_trial_behind_the_others_is_stopped_early_and_leaves_no_finished_run(searched):
    stopped = [one for one in searched.found if one.state == "pruned"]
    assert stopped
    for one in stopped:
        assert one.best is None
        assert len((one.variant.run / "metrics.jsonl").read_text().splitlines()) < one.variant.recipe.epochs
        assert json.loads((one.variant.run / "run.json").read_text())["status"] == "pruned"


def test_stopped_anywhere_it_goes_on_with_the_very_trials(store, searched, tmp_path, monkeypatch):
    begun = []

    def interrupted(store, recipe, run, *, watch, **rest):
        begun.append(run.name)

        def watched(run, history):
            if len(begun) == 3:
                raise KeyboardInterrupt
            watch(run, history)

        return train(store, recipe, run, watch=watched, **rest)

    monkeypatch.setattr(work, "train", interrupted)
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "4"))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    monkeypatch.undo()
    assert run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False).trained == 2
    more = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    result = run_sweep(store, more, tmp_path / "runs", device="cpu", score=False)
    assert result.trained == 1
    assert tried(result) == [(label, recipe, state, best) for label, recipe, state, best in tried(searched)]
    assert run_sweep(store, more, tmp_path / "runs", device="cpu", score=False).trained == 0
    other = described(tmp_path, SEARCH.replace("TRIALS", "5").replace("1e-6", "1e-5"))
    words = (
        r"holds a search that differs .*\(search\.space\.optimiser\.learning_rate\.low: 1e-06 here, 1e-05 asked for\)"
    )
    with pytest.raises(RunError, match=words):
        run_sweep(store, other, tmp_path / "runs", device="cpu", score=False)


def test_trials_of_another_store_are_not_gone_on_with(store, searched, tmp_path):
    shutil.copytree(searched.found[0].variant.run.parent, tmp_path / "runs")
    other = plant_store(tmp_path / "other.zarr", train=5, validation=3, seconds=16.0)
    more = described(tmp_path, SEARCH.replace("TRIALS", "6"))
    with pytest.raises(RunError, match=r"trial-0000: holds a run that differs in videos\.train"):
        run_sweep(other, more, tmp_path / "runs", device="cpu", score=False)
    assert not (tmp_path / "runs" / "trial-0005").exists()


def test_stopped_as_a_trial_is_about_to_end_early_it_ends_it_then(store, searched, tmp_path, monkeypatch):
    def interrupted(store, recipe, run, *, watch, **rest):
        def watched(run, history):
            try:
                watch(run, history)
            except work.PrunedError:
                raise KeyboardInterrupt from None

        return train(store, recipe, run, watch=watched, **rest)

    monkeypatch.setattr(ongoing, "SAVING", 0)
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    with monkeypatch.context() as patched:
        patched.setattr(work, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    assert list(tmp_path.glob("runs/*/resume.safetensors"))
    assert tried(run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)) == tried(searched)


def test_a_trial_whose_values_do_not_fit_together_fails_and_the_search_goes_on(store, tmp_path):
    # Both ends can be divided among four heads, and what lies between them cannot.
    text = SHARED.replace("epochs = 3", "epochs = 1") + (
        "[search]\ntrials = TRIALS\nsampler = 'random'\nspace.model.width = { low = 16, high = 20 }\n"
    )
    sweep = described(tmp_path, text.replace("TRIALS", "6"))
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    states = {one.variant.label: one.state for one in result.found}
    assert len(states) == 6
    assert set(states.values()) == {"done", "failed"}
    for one in result.found:
        if one.state == "failed":
            assert f"sweep.toml, {one.variant.label} ({{'model.width': 1" in one.reason
            assert not one.variant.run.exists()
            assert one.fields["model.width"] in (17, 18, 19)
            assert str(one.fields) in one.reason
        else:
            assert one.variant.recipe.model.width in (16, 20)
    again = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    assert again.trained == 0
    assert [(one.state, one.reason) for one in again.found] == [(one.state, one.reason) for one in result.found]
    more = described(tmp_path, text.replace("TRIALS", "7"))
    assert run_sweep(store, more, tmp_path / "runs", device="cpu", score=False).trained == 1


def test_a_trial_that_failed_for_what_may_pass_is_gone_on_with_by_the_next_command(
    store, searched, tmp_path, monkeypatch
):
    def full(store, recipe, run, **rest):
        if run.name in ("trial-0000", "trial-0003"):
            raise TargetError(run, fault="cannot be written (No space left on device)", remedy="make room")
        return train(store, recipe, run, **rest)

    sweep = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    with monkeypatch.context() as patched:
        patched.setattr(work, "train", full)
        result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    assert len(result.found) == 5
    assert {one.variant.label: one.reason for one in result.failed} == {
        name: f"{tmp_path / 'runs' / name}: cannot be written (No space left on device); make room"
        for name in ("trial-0000", "trial-0003")
    }
    watcher = Watching()
    again = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False, watcher=watcher)
    assert watcher.said == [f"{one.variant.label}: was stopped, and goes on" for one in result.failed]
    assert again.trained == 2
    assert not again.failed
    assert all(one.reason is None for one in again.found)


def test_a_search_of_which_no_trial_can_be_trained_ends(store, tmp_path):
    # Each can be alone, and never both.
    text = SHARED + (
        "[search]\ntrials = 3\n[search.space]\nmodel.head.output.choices = ['sequence']\nwindow.frames.choices = [1]\n"
    )
    result = run_sweep(store, described(tmp_path, text), tmp_path / "runs", device="cpu")
    assert [one.state for one in result.failed] == ["failed"] * 3
    assert all("needs window.frames of 2 or more" in one.reason for one in result.failed)


def test_a_range_is_of_whole_numbers_where_the_field_is_though_the_base_leaves_it_out(store, tmp_path):
    text = SHARED.replace("epochs = 3", "epochs = 1") + (
        "[search]\ntrials = 2\nspace.compute.at_once = { low = 4, high = 12 }\n"
    )
    result = run_sweep(store, described(tmp_path, text), tmp_path / "runs", device="cpu", score=False)
    assert [one.state for one in result.found] == ["done"] * 2
    assert all(one.variant.recipe.compute.at_once in range(4, 13) for one in result.found)


@pytest.fixture
def stopped(store, tmp_path, monkeypatch):
    """Return a search of two trials whose second was stopped, and what its process had in the folder's leases."""
    left = tmp_path / "left"

    def killed(store, recipe, run, *, watch, **rest):
        if run.name == "trial-0001":
            shutil.copytree(run.parent / ".leases", left)
            raise KeyboardInterrupt
        return train(store, recipe, run, watch=watch, **rest)

    sweep = described(tmp_path, SEARCH.replace("TRIALS", "2"))
    with monkeypatch.context() as patched:
        patched.setattr(work, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    return sweep, left


@pytest.mark.parametrize(
    ("about", "patience"),
    [
        ({"space": "another machine"}, 1.5),  # which gives no sign of life any more
        ({"started": 1}, 3600.0),  # the number of its process is that of another one now
        ({"pid": 2**22 + 1}, 3600.0),
    ],
)
def test_a_trial_is_gone_on_with_wherever_its_process_died(store, stopped, tmp_path, monkeypatch, about, patience):
    sweep, left = stopped
    shutil.copytree(left, tmp_path / "runs" / ".leases")
    (writer,) = (tmp_path / "runs" / ".leases").glob("*.writer")
    writer.write_text(json.dumps(json.loads(writer.read_text()) | about))
    monkeypatch.setattr(leases, "PATIENCE", patience)
    watcher = Watching()
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False, watcher=watcher)
    assert result.trained == 1
    assert {one.state for one in result.found} <= {"done", "pruned"}
    assert watcher.said[-1] == "trial-0001: was stopped, and goes on"
    assert not (tmp_path / "runs" / ".leases").exists()


def test_a_trial_that_another_trains_is_waited_for_and_not_trained_twice(store, stopped, tmp_path):
    sweep, _ = stopped
    waits = threading.Event()

    class Waiting(Watching):
        def say(self, text):
            super().say(text)
            waits.set()

    def train_elsewhere():
        study = search.open_study(tmp_path / "runs", sweep.search)
        with leases.present(tmp_path / "runs") as theirs:
            assert theirs.acquire("trial 1")
            held.set()
            assert waits.wait(60)
            study.tell(1, 0.5)

    held, watcher = threading.Event(), Waiting()
    other = threading.Thread(target=train_elsewhere)
    other.start()
    assert held.wait(60)
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False, watcher=watcher)
    other.join()
    assert watcher.said == ["waiting for 1 trials that others train"]
    assert result.trained == 0
    assert [one.state for one in result.found] == ["done"] * 2


# By their numbers alone the first two trials learn, and those behind them do not.
TELLING = (
    SHARED
    + """
[search]
trials = 5
sampler = "random"
startup = 1
warmup = 0
seed = 151
[search.space]
"optimiser.learning_rate" = { choices = [2e-3, 1e-7] }
"""
)


@pytest.mark.slow
def test_workers_side_by_side_end_each_others_trials_and_leave_what_training_alone_would(store, tmp_path):
    result = run_sweep(store, described(tmp_path, TELLING), tmp_path / "runs", device="cpu", workers=2, score=False)
    assert result.workers == 2
    assert {one.variant.label: one.state for one in result.found} == {
        "trial-0000": "done",
        "trial-0001": "done",
        "trial-0002": "pruned",
        "trial-0003": "pruned",
        "trial-0004": "pruned",
    }
    for one in result.found:
        train(store, one.variant.recipe, tmp_path / one.variant.label, device="cpu")
        alone, ours = ((run / "metrics.jsonl").read_text() for run in (tmp_path / one.variant.label, one.variant.run))
        assert ours == alone if one.state == "done" else alone.startswith(ours)
        assert (len(ours.splitlines()) == 3) == (one.state == "done")


def command(store, sweep, runs):
    words = [sys.executable, "-m", "vaprompt", "sweep", store, sweep.source, "--runs", runs, "--no-score", "--json"]
    return subprocess.Popen(
        [*words, "--device", "cpu", "--workers", "1"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_two_commands_share_a_search_and_one_does_what_the_other_leaves(store, tmp_path):
    runs = tmp_path / "runs"
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "6"))
    told = [json.loads(one.communicate(timeout=300)[0]) for one in [command(store, sweep, runs) for _ in range(2)]]
    assert sum(one["trained"] for one in told) == 6
    for one in told:
        assert len(one["variants"]) == 6
        assert {variant["state"] for variant in one["variants"]} <= {"done", "pruned"}
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "12"))
    doomed, other = (command(store, sweep, runs) for _ in range(2))
    deadline = time.monotonic() + 120
    while len(list(runs.glob("trial-*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    doomed.kill()
    doomed.communicate()
    last = json.loads(other.communicate(timeout=300)[0])
    assert other.returncode == 0
    assert len(last["variants"]) == 12
    assert {variant["state"] for variant in last["variants"]} <= {"done", "pruned"}
