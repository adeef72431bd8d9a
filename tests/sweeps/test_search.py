"""A search goes on where it was stopped with the very trials of one that was not, and ends early what lies behind."""

import importlib.util
import json

import pytest

from tests.sweeps.conftest import SHARED, described
from vaprompt.errors import RecipeError, RunError
from vaprompt.sweeps import search, work
from vaprompt.sweeps.sweep import run_sweep
from vaprompt.training.run import train

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
        assert json.loads((one.variant.run / "run.json").read_text())["status"] == "training"


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
