"""Runs trained as one stack become what they become alone, end when they would, and go on where they were killed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.planted import plant_store
from vaprompt.errors import RunError, TargetError
from vaprompt.recipes import validated
from vaprompt.training import stacked
from vaprompt.training.checkpoint import load_weights
from vaprompt.training.ongoing import Ongoing
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import TrainResult, train
from vaprompt.training.stack import Stack
from vaprompt.training.stacked import stackable, train_stacked

SMALL = {
    "window": {"seconds": 4.0, "stride": 1.0, "frames": 8},
    "model": {"width": 16, "temporal": {"units": 16}, "fusion": {"feedforward": 32}},
    "optimiser": {"learning_rate": 5e-4},
    "epochs": 3,
    "patience": 3,
}


def recipe(base=None, **changes):
    merged = {**SMALL, **(base or {})}
    for name, value in changes.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return validated(TrainRecipe, merged, where="test")


VARIANTS = [
    recipe(),
    recipe(seed=1, loss={"kl": 0.7}),
    recipe(optimiser={"learning_rate": 1e-3, "weight_decay": 0.3}, regions={"sigma": 0.6}),
    recipe(seed=2, model={**SMALL["model"], "fusion": {"feedforward": 32, "dropout": 0.5}, "head": {"dropout": 0.0}}),
    recipe(seed=3, epochs=1, regions={"valence": [-0.5, 0.0, 0.5]}),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("planted") / "store.zarr", train=4)


def metrics(run: Path):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(one: Path, other: Path):
    mine, theirs = metrics(one), metrics(other)
    assert len(mine) == len(theirs)
    for line, expected in zip(mine, theirs, strict=True):
        for part in ("train", "validation"):
            for name, value in expected[part].items():
                assert line[part][name] == pytest.approx(value, abs=5e-4), (part, name)
    weights, expected_weights = (load_weights(run / "checkpoint.safetensors")[0] for run in (one, other))
    assert weights.keys() == expected_weights.keys()
    for name, tensor in weights.items():
        if name.endswith("in_proj_bias"):
            continue  # the key's part has no gradient but rounding, which AdamW makes whole steps of
        far = (tensor - expected_weights[name]).abs()
        assert far.quantile(0.98) < 1e-4 if far.numel() > 1 else far < 1e-4, name


def test_each_becomes_what_it_becomes_alone(store, tmp_path):
    assert stackable(VARIANTS) == [[0, 1, 2, 3, 4]]
    together = [tmp_path / f"together{index}" for index in range(len(VARIANTS))]
    results = train_stacked(store, VARIANTS, together, device="cpu")
    for index, variant in enumerate(VARIANTS):
        alone = train(store, variant, tmp_path / f"alone{index}", device="cpu")
        result = results[index]
        assert isinstance(result, TrainResult)
        assert (result.epochs, result.best_epoch) == (alone.epochs, alone.best_epoch)
        assert_alike(together[index], alone.run)
        assert not list(together[index].glob("resume*"))
    again = train_stacked(store, VARIANTS, together, device="cpu")
    assert [result.trained for result in again] == [False] * len(VARIANTS)
    # train() takes what is complete as its own.
    assert not train(store, VARIANTS[1], together[1], device="cpu").trained


@pytest.mark.parametrize(
    "model",
    [
        {"temporal": {"kind": "tcn"}},
        {"temporal": {"layers": 2, "units": 8, "dropout": 0.3}, "fusion": {"kind": "attention", "feedforward": 16}},
        {"fusion": {"kind": "gated"}, "head": {"output": "sequence"}},
        {"fusion": {"gate": "projected", "feedforward": 16}},
        {"modalities": ["image"], "prompt": {"semantic": "clip"}},
        {"modalities": ["audio"]},
    ],
    ids=["tcn", "two layers", "sequence", "projected", "image", "audio"],
)
def test_so_does_each_architecture(store, tmp_path, model):
    variants = [recipe(epochs=2, seed=seed, model={"width": 16, **model}) for seed in (0, 1)]
    runs = [tmp_path / "0", tmp_path / "1"]
    train_stacked(store, variants, runs, device="cpu")
    train(store, variants[1], tmp_path / "alone", device="cpu")
    assert_alike(runs[1], tmp_path / "alone")


def test_time_is_shared_among_those_that_are_under_way(store, tmp_path, monkeypatch):
    took, shared = Ongoing.took, []

    def watched(self, *arguments, beside):
        shared.append(beside)
        return took(self, *arguments, beside=beside)

    monkeypatch.setattr(Ongoing, "took", watched)
    variants = [recipe(epochs=epochs, seed=seed) for seed, epochs in enumerate((1, 1, 3))]
    train_stacked(store, variants, [tmp_path / str(index) for index in range(3)], device="cpu")
    assert shared == [3, 3, 3, 1, 1]


def test_killed_ones_go_on_together_or_alone(store, tmp_path, monkeypatch):
    variants, names = VARIANTS[:3], ["a", "b", "c"]
    train_stacked(store, variants, [tmp_path / "undisturbed" / name for name in names], device="cpu")
    runs = [tmp_path / "killed" / name for name in names]
    kept = 0

    def dying(*arguments):
        nonlocal kept
        kept += 1
        if kept == 5:  # of the second epoch: the first run's state is kept, the second's is not
            raise KeyboardInterrupt
        save_state(*arguments)

    from vaprompt.training.checkpoint import save_state

    with monkeypatch.context() as patched:
        patched.setattr("vaprompt.training.ongoing.SAVING", 0)
        patched.setattr("vaprompt.training.ongoing.save_state", dying)
        with pytest.raises(KeyboardInterrupt):
            train_stacked(store, variants, runs, device="cpu")
    assert [len(metrics(run)) for run in runs] == [2, 2, 1]
    train(store, variants[0], runs[0], device="cpu", resume=True)
    results = train_stacked(store, variants, runs, device="cpu")
    assert [result.trained for result in results] == [False, True, True]
    for name, run in zip(names, runs, strict=True):
        assert_alike(run, tmp_path / "undisturbed" / name)


def test_one_that_ends_early_is_complete_whatever_becomes_of_the_others(store, tmp_path):
    def interrupt(run, epochs):
        if len(epochs) == 2:
            raise KeyboardInterrupt

    variants, runs = [recipe(epochs=1), recipe(seed=1)], [tmp_path / "short", tmp_path / "long"]
    with pytest.raises(KeyboardInterrupt):
        train_stacked(store, variants, runs, device="cpu", watch=interrupt)
    assert [json.loads((run / "run.json").read_text())["status"] for run in runs] == ["complete", "training"]
    assert [result.trained for result in train_stacked(store, variants, runs, device="cpu")] == [False, True]


def test_one_that_cannot_be_completed_leaves_the_others_alone(store, tmp_path, monkeypatch):
    complete = Ongoing.complete

    def full(self):
        if self.run.name == "short":
            raise TargetError(self.run, fault="cannot be written (no space left on device)", remedy="free some")
        return complete(self)

    monkeypatch.setattr(Ongoing, "complete", full)
    runs = [tmp_path / "short", tmp_path / "long"]
    short, long = train_stacked(store, [recipe(epochs=1), recipe(seed=1, epochs=2)], runs, device="cpu")
    assert isinstance(short, TargetError)
    assert long.epochs == 2


def test_one_that_breaks_leaves_the_others_alone(store, tmp_path, monkeypatch):
    call = Stack.__call__

    def breaking(self, row_VB):
        told_V3 = call(self, row_VB)
        if len(told_V3) == 2:
            told_V3[1] = np.nan
        return told_V3

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    monkeypatch.setattr(Stack, "__call__", breaking)
    runs = [tmp_path / name for name in ("whole", "other", "broken")]
    whole, refused, broken = train_stacked(store, VARIANTS[:3], runs, device="cpu")
    assert isinstance(whole, TrainResult)
    assert whole.epochs == 3
    assert isinstance(refused, RunError)
    assert "is not empty and holds no run" in str(refused)
    assert isinstance(broken, RunError)
    assert "the loss is no longer a number in step 1 of epoch 1" in str(broken)


def test_so_does_one_whose_weights_break_in_an_epochs_last_step(store, tmp_path, monkeypatch):
    epoch_of = stacked._epoch

    def breaking(stack, runs):
        epochs = epoch_of(stack, runs)
        with torch.no_grad():
            next(runs[-1].estimator.parameters()).fill_(torch.nan)
        return epochs

    monkeypatch.setattr(stacked, "_epoch", breaking)
    variants = [recipe(epochs=1), recipe(epochs=1, seed=1)]
    whole, broken = train_stacked(store, variants, [tmp_path / "whole", tmp_path / "broken"], device="cpu")
    assert isinstance(whole, TrainResult)
    assert isinstance(broken, RunError)
    assert "predictions for video4, video5 are no longer numbers behind step 7 of epoch 1, on windows of" in str(broken)
    assert "no epoch was finished before" in str(broken)


def test_what_differs_in_more_than_numbers_is_apart():
    usual = recipe()
    others = [
        recipe(batch=8),
        recipe(seed=4),
        recipe(model={**SMALL["model"], "temporal": {"units": 8}}),
        recipe(window={"stride": 0.5}),
        recipe(seed=5),
    ]
    assert stackable([usual, *others]) == [[0, 2, 5], [1], [3], [4]]
    with pytest.raises(ValueError, match="cannot be trained as one stack"):
        train_stacked("nowhere", [usual, others[0]], [Path("a"), Path("b")])
