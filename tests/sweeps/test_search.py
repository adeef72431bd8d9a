"""A search goes on where it was stopped with the very trials of one that was not, and ends early what lies behind."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from tests.listening import Watching
from tests.planted import plant_store
from tests.sweeps.conftest import SHARED, described
from vaprompt.errors import RecipeError, RunError, TargetError
from vaprompt.store import leases
from vaprompt.sweeps import journal, search, work
from vaprompt.sweeps.sweep import run_sweep
from vaprompt.training import ongoing
from vaprompt.training.run import train

ROOT = Path(__file__).parents[2]

SEARCH = (
    SHARED.replace("epochs = 3", "epochs = 2")
    + """
[search]
trials = TRIALS
startup = 2
warmup = 0
[search.space]
loss.kl = { low = 0.0, high = 1.0 }
"optimiser.learning_rate" = { low = 1e-6, high = 1e-2, log = true }
model.head.hidden = { low = 8, high = 64, step = 8 }
"model.fusion.kind" = { choices = ["attention", "gated"] }
"""
)


@pytest.fixture(scope="module")
def searched(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return run_sweep(
        store, described(folder, SEARCH.replace("TRIALS", "5")), folder / "runs", device="cpu", score=False
    )


def tried(result):
    return [(one.variant.label, one.variant.recipe, one.state, one.best) for one in result.found]


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
    with pytest.raises(RunError, match="holds a search that differs"):
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


@pytest.mark.slow
def test_stopped_before_any_line_of_its_journal_it_ends_the_same(store, tmp_path, monkeypatch):
    text = SEARCH.replace("TRIALS", "2").replace("epochs = 2", "epochs = 1")
    whole = described(tmp_path / "whole", text)
    undisturbed = tried(run_sweep(store, whole, tmp_path / "whole" / "runs", device="cpu", score=False))
    lines = len((tmp_path / "whole" / "runs" / "search.journal").read_text().splitlines())
    assert lines > 5
    append = JournalFileBackend.append_logs

    def interrupted(journal, logs):
        if next(before, None) is None:
            raise KeyboardInterrupt
        append(journal, logs)

    for line in range(lines):
        sweep, runs = described(tmp_path / f"{line}", text), tmp_path / f"{line}" / "runs"
        before = iter(range(line))
        with monkeypatch.context() as patched:
            patched.setattr(JournalFileBackend, "append_logs", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_sweep(store, sweep, runs, device="cpu", score=False)
        assert tried(run_sweep(store, sweep, runs, device="cpu", score=False)) == undisturbed


def test_a_line_of_its_journal_that_was_cut_off_is_written_again(store, searched, tmp_path):
    sweep, runs = described(tmp_path, SEARCH.replace("TRIALS", "4")), tmp_path / "runs"
    run_sweep(store, sweep, runs, device="cpu", score=False)
    whole = (runs / "search.journal").read_bytes()
    (runs / "search.journal").write_bytes(whole[: whole.rindex(b'"values"') + 4])
    more = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    assert tried(run_sweep(store, more, runs, device="cpu", score=False)) == tried(searched)
    assert run_sweep(store, more, runs, device="cpu", score=False).trained == 0


def test_a_disk_that_is_full_is_said_of_the_journal(store, tmp_path, monkeypatch):
    def full(journal, logs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "1"))
    with pytest.raises(TargetError, match=r"search\.journal: cannot be written \(No space left on device\)"):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")


KILLED_AS_IT_WRITES = """
import os, signal, sys
from optuna.storages.journal import JournalFileBackend, _file
from vaprompt.cli.main import main

append = JournalFileBackend.append_logs


def killed(journal, logs):
    if "intermediate_value" not in logs[0]:
        return append(journal, logs)
    with _file.get_lock_file(journal._lock), open("runs/search.journal", "a") as file:
        print('{"op_code":7,"wor', end="", file=file, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


JournalFileBackend.append_logs = killed
main()
"""


@pytest.mark.slow
def test_killed_as_it_writes_its_journal_it_goes_on(store, searched, tmp_path, monkeypatch):
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    options = ["sweep", str(store), "sweep.toml", "--runs", "runs", "--workers", "1", "--no-score", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_AS_IT_WRITES, *options], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == -9
    assert os.path.lexists(tmp_path / "runs" / "search.journal.lock")
    monkeypatch.setattr(journal, "GRACE", 3)
    monkeypatch.chdir(tmp_path)
    assert tried(run_sweep(store, sweep, Path("runs"), device="cpu", score=False)) == tried(searched)


def test_a_damaged_journal_and_a_missing_package_are_one_line(store, tmp_path, monkeypatch):
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "1"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "search.journal").write_text('{"op_code": "nonsense"}\n')
    with pytest.raises(RunError, match="cannot be read"):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")
    monkeypatch.setattr(search, "find_spec", lambda name: None if name == "optuna" else importlib.util.find_spec(name))
    with pytest.raises(
        RecipeError, match=r"needs the package optuna; install it with: pip install 'vaprompt\[sweep\]'"
    ):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")


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
