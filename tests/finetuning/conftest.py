"""A small run on cached features to start from, and one that was fine-tuned; made once a session, never changed."""

from pathlib import Path

import pytest
import torch

from tests.conftest import once
from vaprompt.datasets.description import open_dataset
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.finetuning.finetune import finetune
from vaprompt.finetuning.recipe import FinetuneRecipe
from vaprompt.recipes import read_recipe, shipped, validated
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

HEADS = {
    "window": {"seconds": 4.0, "stride": 2.0, "frames": 4},
    "model": {"width": 16, "temporal": {"units": 16}, "fusion": {"feedforward": 32}, "head": {"hidden": 16}},
    "optimiser": {"learning_rate": 2e-3},
    "batch": 6,
    "epochs": 2,
}
FROZEN = {"image": {"tune": "none"}, "audio": {"tune": "none"}}
FAST = {"optimiser": {"encoder_learning_rate": 1e-4}, "at_once": 4, "epochs": 2}


def heads_recipe(**changes) -> TrainRecipe:
    return validated(TrainRecipe, HEADS | changes, where="test")


def recipe(**changes) -> FinetuneRecipe:
    return validated(FinetuneRecipe, FAST | changes, where="test")


@pytest.fixture(scope="session")
def base(small_store: Path, shared_folder: Path) -> Path:
    """Return a run of two epochs on `small_store`, whose pictures are crops."""
    return once(shared_folder / "base", lambda run: train(small_store, heads_recipe(), run, device="cpu"))


@pytest.fixture(scope="session")
def tuned(base: Path, small_dataset: Path) -> Path:
    """Return a run of two epochs that was fine-tuned from `base`, image and audio alike."""

    def tune(run: Path) -> None:
        with torch.random.fork_rng():
            finetune(base, small_dataset, recipe(), run, device="cpu")

    return once(base.with_name("tuned"), tune)


@pytest.fixture(scope="session")
def tuned_store(tuned: Path, small_dataset: Path) -> Path:
    """Return a store that holds what the tuned encoders make of the data set, and nothing else."""
    from vaprompt.training.runs import read_complete

    facts = read_complete(tuned)
    wanted = validated(ExtractRecipe, facts["extraction"], where="test")

    def fill(store: Path) -> None:
        assert not extract(open_dataset(small_dataset), wanted, store, stream=facts["recipe"]["stream"]).failed

    return once(tuned.with_name("tuned.zarr"), fill)


@pytest.fixture(scope="session")
def frames_data(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a description of the same data set, whose pictures are whole frames."""
    path = tmp_path_factory.mktemp("description") / "frames.toml"
    path.write_text(f'name = "whole"\nroot = "{small_dataset}"\nfaces = "frames"\n')
    return path


@pytest.fixture(scope="session")
def frames_base(frames_data: Path) -> Path:
    """Return a run of one epoch on whole frames, three a second."""
    folder = frames_data.parent
    wanted = read_recipe(ExtractRecipe, shipped("extract", "demo"), ["image_rate=3.0", "audio.hop=2.0"])
    assert not extract(open_dataset(frames_data), wanted, folder / "store.zarr").failed
    train(folder / "store.zarr", heads_recipe(epochs=1), folder / "run", device="cpu")
    return folder / "run"
