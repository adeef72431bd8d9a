"""Several sweeps at one folder share it: each does what no other is at, and goes on with what a killed one leaves."""

import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.sweeps.conftest import GRID, contents, described, handed_out
from vaprompt.files import held
from vaprompt.sweeps import work
from vaprompt.sweeps.sweep import run_sweep
from vaprompt.sweeps.work import Job, Work
from vaprompt.training.run import train

ROOT = Path(__file__).parents[2]


def test_of_two_processes_each_is_given_what_the_other_is_not_at(tmp_path):
    sweep = described(tmp_path, GRID)
    labels = [one.label for one in sweep.variants]
    with handed_out(sweep) as ours, handed_out(sweep) as theirs:
        assert [source.next().variants[0].label for source in (ours, theirs, theirs, ours)] == labels
        assert (ours.next(), theirs.next()) == (None, None)
        theirs.over([work.Outcome(sweep.variants[1], "done"), work.Outcome(sweep.variants[2], "failed")])
        assert {ours.next().variants[0].label for _ in range(2)} == set(labels[1:3])
        assert (ours.left, ours.next()) == (0, None)
        ours.over([work.Outcome(sweep.variants[0], "done")])
        assert theirs.next().variants == (sweep.variants[0],)


def test_what_others_did_meanwhile_counts_only_if_it_is_what_was_asked_for(store, swept, tmp_path):
    sweep = described(tmp_path, GRID)
    first, second = sweep.variants[:2]
    shutil.copytree(swept.sweep.variants[0].run, first.run)
    train(store, second.recipe.model_copy(update={"epochs": 1}), second.run, device="cpu")
    outcomes = [work.Trainer(Work(str(store), "cpu")).carry_out(Job((one,)))[0] for one in (first, second)]
    assert [(one.state, one.was_there) for one in outcomes] == [("done", True), ("failed", False)]
    assert "holds a run that differs in epochs" in str(outcomes[1].error)


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["never", "always"])
def test_two_commands_share_a_sweep_and_one_goes_on_with_what_a_killed_one_leaves(store, swept, tmp_path, stack):
    sweep = described(tmp_path, GRID)
    words = [sys.executable, "-m", "vaprompt", "sweep", store, sweep.source, "--runs", tmp_path / "runs", "--json"]
    words += ["--device", "cpu", "--stack", stack, "--workers", "1"]

    def begun():
        return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    both = [begun() for _ in range(2)]
    told = [(*one.communicate(timeout=300), one.returncode) for one in both]
    assert [code for _, _, code in told] == [0, 0], told
    found = [json.loads(out) for out, _, _ in told]
    assert sum(one["trained"] for one in found) == 4
    assert [[one["state"] for one in each["variants"]] for each in found] == [["done"] * 4] * 2
    assert found[0]["table"] == found[1]["table"]

    shutil.rmtree(tmp_path / "runs")
    doomed, other = begun(), begun()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    doomed.kill()
    doomed.communicate()
    last, said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    assert [one["state"] for one in json.loads(last)["variants"]] == ["done"] * 4
    assert [path.name for path in (tmp_path / "runs").glob(".*")] == []
    if stack == "never":
        for ours, theirs in zip(sweep.variants, swept.sweep.variants, strict=True):
            assert contents(ours.run) == contents(theirs.run)


def test_a_folder_that_a_dying_process_still_holds_is_waited_for(store, swept, tmp_path):
    sweep = described(tmp_path, GRID)
    first = sweep.variants[0]
    holding = ExitStack()
    holding.enter_context(held(first.run))
    letting_go = threading.Timer(1.0, holding.close)
    letting_go.start()
    (outcome,) = work.Trainer(Work(str(store), "cpu")).carry_out(Job((first,)))
    letting_go.join()
    assert outcome.state == "done"
    assert contents(first.run) == contents(swept.sweep.variants[0].run)


def test_a_folder_that_is_held_for_long_fails_its_variant_alone(store, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LETTING_GO", 0.1)
    sweep = described(tmp_path, GRID, "epochs=1")
    with held(sweep.variants[1].run):
        result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    assert [one.state for one in result.found] == ["done", "failed", "done", "done"]
    assert "another process is writing into it" in result.failed[0].reason
