"""Training on a GPU: the processor's numbers, alone and together, recorded or not, with features there or here."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.planted import plant_store
from tests.training.test_stacked import metrics, recipe
from vaprompt import FeatureStore, load_run
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.training.checkpoint import save_state
from vaprompt.training.loop import train_epoch
from vaprompt.training.run import train
from vaprompt.training.stacked import train_stacked

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STILL = {
    "temporal": {"units": 16, "dropout": 0.0},
    "fusion": {"feedforward": 32, "dropout": 0.0},
    "head": {"dropout": 0.0},
}
"""Without dropout, whose masks are other ones on each kind of device."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("planted") / "store.zarr", train=4)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A store that says which CLIP it was made with."""
    clip = ImageEncoderRecipe(model="embedded", weights="embedded")
    return plant_store(tmp_path_factory.mktemp("spoken") / "store.zarr", train=4, clip=clip)


def losses(run: Path):
    return np.array([line["train"]["loss"] for line in metrics(run)])


@pytest.mark.parametrize("compute", [{}, {"graph": False}, {"precision": "bf16"}], ids=["recorded", "not", "bf16"])
@pytest.mark.parametrize("kind", ["gru", "tcn"])
def test_the_numbers_are_the_processors(store, tmp_path, compute, kind):
    model = {"width": 16, **STILL, "temporal": {**STILL["temporal"], "kind": kind}}
    train(store, recipe(model=model), tmp_path / "cpu", device="cpu")
    train(store, recipe(model=model, compute=compute), tmp_path / "cuda", device="cuda")
    near = 3e-2 if compute.get("precision") == "bf16" else 1e-3
    np.testing.assert_allclose(losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), atol=near)
    source, name = FeatureStore.open(store), "video4"
    image, audio = source.image(name), source.audio(name)
    arrays = (image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, source.labels(name).time_F)
    there, here = (load_run(tmp_path / "cuda", device).predict(*arrays) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there, here, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"head": {"kind": "expectation", "output": "sequence", "dropout": 0.0}}},
        {"model": {"prompt": {"words": "learned_context", "context": "a face showing"}}},
        {"loss": {"temperature": 2.0, "kl_end": 0.0, "kl_course": "cosine"}},
        {"optimiser": {"average": 0.9}},
        {"batch": 32, "compute": {"at_once": 12}},
        {"batch": 32, "compute": {"at_once": 12, "graph": False}},
    ],
    ids=["expectation", "learned context", "course", "average", "in parts", "in parts, not recorded"],
)
def test_the_numbers_of_a_variant_are_the_processors(spoken, tmp_path, changes):
    still = {"width": 16, **STILL, **changes.get("model", {})}
    for device in ("cpu", "cuda"):
        train(spoken, recipe(**(changes | {"model": still})), tmp_path / device, device=device)
    np.testing.assert_allclose(losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), atol=1e-3)
    for before, after in zip(metrics(tmp_path / "cpu"), metrics(tmp_path / "cuda"), strict=True):
        assert after["validation"]["mean"] == pytest.approx(before["validation"]["mean"], abs=3e-3)


@pytest.mark.parametrize("compute", [{}, {"graph": False}, {"precision": "bf16"}])
def test_it_learns_alike_alone_and_together(store, tmp_path, compute):
    variants = [recipe(seed=seed, compute=compute) for seed in (0, 1, 2)]
    runs = [tmp_path / str(seed) for seed in range(3)]
    train_stacked(store, variants, runs, device="cuda")
    train(store, variants[1], tmp_path / "alone", device="cuda")
    near = 3e-2 if compute.get("precision") == "bf16" else 2e-3
    for line, expected in zip(metrics(runs[1]), metrics(tmp_path / "alone"), strict=True):
        assert line["train"]["loss"] == pytest.approx(expected["train"]["loss"], abs=near)


def test_features_that_do_not_fit_give_the_same_numbers(store, tmp_path):
    train(store, recipe(), tmp_path / "there", device="cuda")
    train(store, recipe(), tmp_path / "here", device="cuda", memory=1)
    for line, expected in zip(metrics(tmp_path / "here"), metrics(tmp_path / "there"), strict=True):
        assert line["train"]["loss"] == pytest.approx(expected["train"]["loss"], abs=1e-5)


def test_one_that_was_stopped_goes_on_with_the_same_numbers(store, tmp_path, monkeypatch):
    train(store, recipe(), tmp_path / "undisturbed", device="cuda")

    def stopping(*arguments):
        save_state(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("vaprompt.training.ongoing.SAVING", 0)
        patched.setattr("vaprompt.training.ongoing.save_state", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(store, recipe(), tmp_path / "stopped", device="cuda")
    assert train(store, recipe(), tmp_path / "stopped", device="cuda", resume=True).epochs == 3
    np.testing.assert_allclose(losses(tmp_path / "stopped"), losses(tmp_path / "undisturbed"), atol=1e-4)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nothing_waits_for_the_device_inside_an_epoch(store, tmp_path):
    entered = train_epoch

    def watched(estimator, step, windows, batch, *, seed, kl):
        first = torch.arange(batch).to(step.device)
        step.begin(seed, kl)
        step(first)  # recording waits, once
        rows = torch.randperm(windows)[: 4 * batch].to(step.device).split(batch)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for row_B in rows:
                step(row_B)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return entered(estimator, step, windows, batch, seed=seed, kl=kl)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vaprompt.training.run.train_epoch", watched)
        for graph in (True, False):
            train(store, recipe(epochs=1, compute={"graph": graph}), tmp_path / str(graph), device="cuda")
    assert json.loads((tmp_path / "True" / "run.json").read_text())["made_by"]["device"] == "cuda"
