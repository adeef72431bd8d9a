"""Variants beyond the paper: each learns the planted signal, and does what its formula says."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.planted import plant_store
from tests.training.small import SMALL, contents
from vaprompt import FeatureStore, load_run
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.errors import FingerprintError, StoreError, WeightsError
from vaprompt.metrics import scores
from vaprompt.recipes import read_recipe, validated
from vaprompt.training.checkpoint import load_weights, save_state
from vaprompt.training.data import Resident
from vaprompt.training.loop import train_epoch
from vaprompt.training.optimiser import Optimiser, OptimiserRecipe
from vaprompt.training.recipe import LossRecipe, TrainRecipe
from vaprompt.training.run import train
from vaprompt.training.step import SharedStep, WholeStep

CLIP = ImageEncoderRecipe(model="embedded", weights="embedded")
LEARNED = {"prompt": {"words": "learned_context", "context": "a face showing"}}


def recipe(*, model=None, **changes):
    fast = {"epochs": 4, "optimiser": {"learning_rate": 5e-3}, "model": SMALL["model"] | (model or {})}
    return validated(TrainRecipe, SMALL | fast | changes, where="test")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("planted") / "store.zarr", train=4, validation=2)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A store that says which CLIP it was made with."""
    return plant_store(tmp_path_factory.mktemp("spoken") / "store.zarr", train=4, validation=1, clip=CLIP)


def epochs(run: Path):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"head": {"kind": "expectation"}}},
        {"model": {"head": {"kind": "expectation", "output": "sequence"}}},
        {"model": {"modality_dropout": 0.3}},
        {"loss": {"kl": 1.0, "kl_end": 0.0, "kl_course": "cosine"}},
        {"loss": {"temperature": 2.0}},
        {"optimiser": {"learning_rate": 5e-3, "average": 0.9}},
        {"batch": 32, "compute": {"at_once": 12}},
    ],
)
def test_variants_learn(store, tmp_path, changes):
    result = train(store, recipe(**changes), tmp_path / "run", device="cpu")
    assert result.mean > 0.6


def test_the_cnn_learns_from_a_picture_of_the_sound_alone(tmp_path):
    store = plant_store(tmp_path / "store.zarr", train=4, validation=2, picture=(64, 32))
    heard = {"model": {"modalities": ["audio"], "audio_encoder": "cnn"}}
    still = recipe(**heard, epochs=1, optimiser={"learning_rate": 1e-9})
    train(store, still, tmp_path / "start", device="cpu")
    learning = recipe(**heard, epochs=8, optimiser={"learning_rate": 2e-3})
    assert train(store, learning, tmp_path / "run", device="cpu").mean > 0.7
    before, after = (load_weights(tmp_path / run / "checkpoint.safetensors")[0] for run in ("start", "run"))
    filters = [name for name in before if before[name].ndim == 4]
    assert len(filters) == 4
    assert all((after[name] - before[name]).abs().max() > 0.01 for name in filters)


def test_a_longer_window_learns(tmp_path):
    store = plant_store(tmp_path / "store.zarr", train=4, validation=1, seconds=60)
    window = {"seconds": 30.0, "stride": 1.0, "frames": 60}
    assert train(store, recipe(window=window, epochs=5), tmp_path / "run", device="cpu").mean > 0.5


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (7, 4)])
def test_another_grid_learns_with_phrases_from_a_file(tmp_path, rows, columns):
    phrases = [f"mood {row} with energy {column}" for row in range(rows) for column in range(columns)]
    (tmp_path / "phrases.txt").write_text("# valence-major\n\n" + "\n".join(phrases) + "\n")
    store = plant_store(tmp_path / "store.zarr", train=4, validation=1, phrases=phrases)
    file = tmp_path / "train.toml"
    axes = [np.linspace(-0.9, 0.9, count).round(2).tolist() for count in (rows, columns)]
    file.write_text(
        f'epochs = 4\n[regions]\nphrases = "phrases.txt"\nvalence = {axes[0]}\narousal = {axes[1]}\nsigma = 0.3\n'
        "[window]\nseconds = 4.0\nstride = 1.0\nframes = 8\n[optimiser]\nlearning_rate = 5e-3\n"
        "[model]\nwidth = 32\n[model.temporal]\nunits = 32\n[model.head]\nkind = 'expectation'\n"
    )
    result = train(store, read_recipe(TrainRecipe, file), tmp_path / "run", device="cpu")
    assert result.mean > 0.5
    # The run holds the phrases themselves, and needs the file no more.
    (tmp_path / "phrases.txt").unlink()
    run = load_run(tmp_path / "run")
    assert run.recipe.regions.phrases == tuple(phrases)
    estimates = run.estimate_windows(np.zeros((3, 8, 24), np.float32), np.zeros((3, 6, 18), np.float32))
    assert estimates.region_WK.shape == (3, rows * columns)


def test_a_learned_context_learns_and_predicts_without_its_tower(spoken, tmp_path, monkeypatch):
    result = train(spoken, recipe(model=LEARNED), tmp_path / "run", device="cpu")
    assert result.mean > 0.5
    plain = recipe(model={"prompt": {"words": "templates"}}, regions={"templates": ["a face showing {}"]}, epochs=1)
    train(spoken, plain, tmp_path / "plain", device="cpu")
    (learned, _), (fixed, _) = (load_weights(tmp_path / run / "checkpoint.safetensors") for run in ("run", "plain"))
    prototypes, before = learned["regions.prototype_KE"], fixed["regions.prototype_KE"]
    # They began as the templates' own, and have moved; all that is kept of the tower are they.
    assert (prototypes - before).abs().max() > 1e-3
    assert (prototypes * before).sum(dim=1).min() > 0.5
    assert {name for name in learned if name.startswith("regions.")} == {
        *(name for name in fixed if name.startswith("regions.")),
        "regions.context_MD",
    }
    monkeypatch.setattr("vaprompt.encoders.context.ContextTower", None)
    run = load_run(tmp_path / "run")
    assert run.estimate_windows(np.zeros((2, 8, 24), np.float32), np.zeros((2, 6, 18), np.float32)).region_WK.shape[
        1
    ] == len(prototypes)


def test_a_context_is_learned_through_the_stores_own_clip_alone(store, spoken, tmp_path):
    with pytest.raises(StoreError, match="does not say which CLIP"):
        train(store, recipe(model=LEARNED), tmp_path / "run", device="cpu")
    refusals = (
        ("random:3", FingerprintError, "weights"),
        (str(tmp_path / "none"), WeightsError, "is not there"),
        ("nowhere", WeightsError, r"^model\.prompt\.weights = nowhere: "),
    )
    for weights, error, told in refusals:
        elsewhere = {"prompt": {**LEARNED["prompt"], "weights": weights}}
        with pytest.raises(error, match=told):
            train(spoken, recipe(model=elsewhere), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_with_modality_dropout_the_score_falls_less_without_sound(store, tmp_path):
    def fall(run: Path) -> float:
        """How much of the score is lost when all videos turn silent."""
        loaded, source, found = load_run(run), FeatureStore.open(store), []
        for silent in (False, True):
            values = []
            for name in source.videos("validation"):
                image, audio, labels = source.image(name), source.audio(name), source.labels(name)
                heard_WSD = np.repeat(audio.embedding_WSD[:1], len(audio.end_W), axis=0)
                heard_WSD = heard_WSD if silent else audio.embedding_WSD
                arrays = (image.embedding_ND, image.time_N, heard_WSD, audio.end_W, labels.time_F)
                values.append((loaded.predict(*arrays)[labels.valid_F], labels.value_F2[labels.valid_F]))
            found.append(scores(*(np.concatenate(part) for part in zip(*values, strict=True)))["mean"])
        return found[0] - found[1]

    train(store, recipe(epochs=8), tmp_path / "without", device="cpu")
    train(store, recipe(model={"modality_dropout": 0.4}, epochs=8), tmp_path / "with", device="cpu")
    without, with_it = fall(tmp_path / "without"), fall(tmp_path / "with")
    assert without > 0.1
    assert with_it < 0.5 * without


def test_the_kl_terms_weight_goes_from_its_first_value_to_its_last(store, tmp_path):
    changes = {"loss": {"kl": 0.6, "kl_end": 0.1}, "epochs": 3}
    train(store, recipe(**changes), tmp_path / "run", device="cpu")
    lines = [line["train"] for line in epochs(tmp_path / "run")]
    weights = [(line["loss"] - line["ccc"]) / line["kl"] for line in lines]
    assert weights == pytest.approx([0.6, 0.35, 0.1], abs=1e-5)
    cosine = LossRecipe(kl=1.0, kl_end=0.0, kl_course="cosine")
    assert [cosine.kl_at(epoch, 5) for epoch in range(5)] == pytest.approx(
        [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)]
    )
    assert LossRecipe(kl=0.3).kl_at(7, 5) == 0.3
    assert LossRecipe(kl=0.3, kl_end=0.1).kl_at(0, 1) == 0.3


def test_targets_at_a_temperature_are_softened_like_the_logits():
    value_N2 = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
    plain, soft = (recipe(loss={"temperature": temperature}).targets(value_N2) for temperature in (1.0, 2.5))
    expected = plain.astype(np.float64) ** (1 / 2.5)
    np.testing.assert_allclose(soft, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)


def test_the_average_is_the_exponential_moving_average_of_the_weights():
    torch.manual_seed(0)
    network = torch.nn.Linear(40, 3)
    optimiser = Optimiser(network, OptimiserRecipe(learning_rate=0.1, average=0.6), parts=2)
    expected = network.weight.detach().double().clone()
    for step in range(1, 30):
        for gradient in optimiser.gradients:
            gradient.copy_(torch.randn_like(gradient))
        for part in range(2):
            optimiser.update(part)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.weight.detach().double()
    latest = network.weight.detach().clone()
    with optimiser.averaged():
        torch.testing.assert_close(network.weight.detach().double(), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(network.weight, latest)
    assert torch.equal(network.weight, latest)


@pytest.mark.parametrize("kind", [SharedStep, WholeStep])
def test_a_step_in_parts_is_that_of_the_whole_batch(store, kind):
    quiet = {"head": {"dropout": 0}, "fusion": {"feedforward": 64, "dropout": 0}}

    def after(**changes):
        wanted = recipe(model=quiet, batch=33, **changes)
        resident = Resident(FeatureStore.open(store), wanted)
        data = resident.split("train", wanted)
        estimator = first_estimator(wanted, resident)
        optimiser = Optimiser(estimator, wanted.optimiser, parts=2 if kind is SharedStep else 1)
        step = kind(estimator, optimiser, data, wanted)
        losses = train_epoch(estimator, step, len(data.windows), 33, seed=1, kl=0.2).loss_N3
        return losses, torch.cat([gradient.flatten() for gradient in optimiser.gradients])

    (whole, gradient), (parts, gradient_of_parts) = after(), after(compute={"at_once": 10})
    np.testing.assert_allclose(parts, whole, atol=2e-5)
    torch.testing.assert_close(gradient_of_parts, gradient, atol=1e-4, rtol=1e-3)


def first_estimator(wanted, resident):
    torch.manual_seed(wanted.seed)
    from vaprompt.model.estimator import Estimator

    prototype_KE = torch.nn.functional.normalize(torch.randn(9, 24), dim=-1)
    return Estimator(
        wanted.model,
        image_dim=resident.dims["image"],
        audio_dim=resident.dims["audio"],
        prototype_KE=prototype_KE,
        silence_SA=resident.silence_SC,
    )


def test_both_passes_of_a_step_in_parts_drop_the_same(store):
    """With a learning rate of almost nothing the loss that a step tells is that of its second pass, too."""
    wanted = recipe(batch=32, compute={"at_once": 8}, model={"modality_dropout": 0.3})
    resident = Resident(FeatureStore.open(store), wanted)
    data, estimator = resident.split("train", wanted), first_estimator(wanted, resident)
    step = SharedStep(estimator, Optimiser(estimator, wanted.optimiser, parts=2), data, wanted)
    seen = []
    original = step._estimator.forward

    def watched(*arguments):
        estimate = original(*arguments)
        seen.append(estimate.value.detach().sum().item())
        return estimate

    estimator.forward = watched
    estimator.train()
    step.begin(0, 0.2)
    step(torch.arange(32))
    # Two passes over four parts in two threads each, whose order within a part is left open.
    first, second = (sorted(np.round(half, 4)) for half in (seen[:8], seen[8:]))
    assert first == second
    assert len(set(first)) == 8


ALL = {
    "model": {
        "head": {"kind": "expectation", "output": "sequence"},
        "modality_dropout": 0.3,
        **LEARNED,
    },
    "loss": {"kl": 0.5, "kl_end": 0.1, "temperature": 1.5},
    "optimiser": {"learning_rate": 2e-3, "average": 0.9},
    "batch": 32,
    "compute": {"at_once": 16},
    "epochs": 2,
}


def test_all_at_once_are_the_same_bytes_on_any_number_of_cores_and_after_a_stop(spoken, tmp_path, monkeypatch):
    train(spoken, recipe(**ALL), tmp_path / "undisturbed", device="cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        train(spoken, recipe(**ALL), tmp_path / "other", device="cpu")
    finally:
        torch.set_num_threads(before)
    assert contents(tmp_path / "other") == contents(tmp_path / "undisturbed")

    def stopping(*arguments):
        save_state(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("vaprompt.training.ongoing.SAVING", 0)
        patched.setattr("vaprompt.training.ongoing.save_state", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(spoken, recipe(**ALL), tmp_path / "stopped", device="cpu")
    train(spoken, recipe(**ALL), tmp_path / "stopped", device="cpu", resume=True)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "undisturbed")
