"""Golden runs: the loss of a recipe's first 20 steps on a small fixed store, as it was when it was last looked at.

What changes them changes what everybody's trainings give, and has to say so: make them again with

    python -m tests.training.test_golden

and commit what differs with the reason. Processors differ in the last bits of a sum, and 20 steps let them grow to
some 1e-6; a change of method shows in the third digit.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.planted import plant_store
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.recipes import read_recipe, shipped
from vaprompt.training import run
from vaprompt.training.recipe import TrainRecipe

GOLDEN = Path(__file__).parent / "golden"
TRAIN = shipped("train", "paper").parent
STEPS = 20
BOUND = 1e-4
OTHERS = ("finetune", "table")
"""Recipes in train/ that begin so are of other commands: fine-tuning, whose loss is the one tested here, and sweeps."""

SMALL = ["model.width=64", "model.temporal.units=64", "model.fusion.feedforward=128"]
STORES: dict[str, dict[str, Any]] = {
    "planted": {},
    "picture": {"picture": (64, 32)},
    "spoken": {"clip": ImageEncoderRecipe(model="embedded", weights="embedded")},
}
"""What is planted besides: a picture of the sound, or a CLIP."""
VARIANTS = {
    "usual": ["model.temporal.kind=tcn", "model.fusion.kind=gated", "model.head.output=sequence"],
    "beyond": [
        *("model.head.kind=expectation", "model.modality_dropout=0.3", "optimiser.average=0.9"),
        *("loss.temperature=2", "loss.kl_end=0", "loss.kl_course=cosine", "batch=32", "compute.at_once=12"),
    ],
    "picture": ["model.audio_encoder=cnn", "optimiser.learning_rate=1e-3"],
    "spoken": ["model.prompt.words=learned_context", "model.prompt.context=a face", "optimiser.learning_rate=1e-3"],
}
"""Choices that no recipe in train/ makes, on a smaller network; on the store of the same name, if there is one."""


def recipes() -> dict[str, TrainRecipe]:
    """Return all recipes that have a golden run, by the name of its file."""
    files = [path for path in sorted(TRAIN.glob("*.toml")) if not path.stem.startswith(OTHERS)]
    shipped_ones = {path.stem: read_recipe(TrainRecipe, path) for path in files}
    return shipped_ones | {
        f"variant-{name}": read_recipe(TrainRecipe, None, SMALL + made) for name, made in VARIANTS.items()
    }


def plant(folder: Path) -> Callable[[str], Path]:
    """Return what gives each golden run its store."""
    stores = {
        name: plant_store(folder / f"{name}.zarr", train=6, validation=1, seconds=61.0, seed=3, **besides)
        for name, besides in STORES.items()
    }
    return lambda name: stores.get(name.removeprefix("variant-"), stores["planted"])


def first_losses(store: Path, recipe: TrainRecipe, place: Path) -> list[list[float]]:
    """Return the loss of the first steps of a training on the processor, and its two parts, CCC's and KL's."""
    seen: list[np.ndarray] = []
    original = run.train_epoch

    def watched(*arguments, **named):
        epoch = original(*arguments, **named)
        seen.append(epoch.loss_N3)
        if sum(map(len, seen)) >= STEPS:
            raise StopIteration
        return epoch

    long = recipe.model_copy(update={"epochs": STEPS, "patience": STEPS})
    with pytest.MonkeyPatch.context() as patch, suppress(StopIteration):
        patch.setattr(run, "train_epoch", watched)
        run.train(store, long, place, device="cpu")
    return np.concatenate(seen)[:STEPS].astype(np.float64).round(7).tolist()


@pytest.fixture(scope="module")
def store_of(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", recipes())
def test_the_first_losses_are_those_that_were_committed(store_of, tmp_path, name):
    kept = json.loads((GOLDEN / f"{name}.json").read_text())["loss_ccc_kl"]
    found = first_losses(store_of(name), recipes()[name], tmp_path / "run")
    off = np.abs(np.array(found) - np.array(kept)).max()
    assert off < BOUND, f"off by {off:.1e}; if that is meant: python -m {__spec__.name}"


def test_every_golden_run_has_its_recipe():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(recipes())


def make(names: list[str]) -> None:
    """Write the golden runs named, or all."""
    with tempfile.TemporaryDirectory() as folder:
        store_of = plant(Path(folder))
        for name, recipe in recipes().items():
            if not names or name in names:
                losses = first_losses(store_of(name), recipe, Path(folder) / name)
                rows = ",\n  ".join(json.dumps(row) for row in losses)
                (GOLDEN / f"{name}.json").write_text(f'{{"loss_ccc_kl": [\n  {rows}\n]}}\n')
    for path in GOLDEN.glob("*.json"):
        if path.stem not in recipes():
            path.unlink()


if __name__ == "__main__":
    make(sys.argv[1:])
