"""A golden run: the loss of the first 20 steps of train/finetune.toml, as it was when it was last looked at.

What changes it changes what everybody's fine-tuning gives, and has to say so: make it again with

    python -m tests.finetuning.test_golden

and commit what differs with the reason. Processors differ in the last bits of a sum; a change of method shows in the
third digit.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import demo_features, draw_small
from tests.finetuning.conftest import heads_recipe
from vaprompt.finetuning.finetune import finetune
from vaprompt.finetuning.recipe import FinetuneRecipe
from vaprompt.finetuning.session import Session
from vaprompt.recipes import read_recipe, shipped
from vaprompt.training.run import train

GOLDEN = Path(__file__).parent / "golden.json"
STEPS, BOUND = 20, 1e-4
SMALL = ["batch=3", "at_once=2"]
"""So that a step takes little time, and is of several parts all the same."""


def fixed_run(store: Path, run: Path) -> Path:
    """Return a run whose heads no training has made: what training does has golden runs of its own."""
    train(store, heads_recipe(epochs=1), run, device="cpu")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value if name.startswith("prototype") else torch.randn(value.shape, generator=generator) * 0.2
        for name, value in sorted(load_file(run / "checkpoint.safetensors").items())
    }
    save_file(weights, run / "checkpoint.safetensors")
    return run


def first_losses(base: Path, data: Path, new: Path) -> list[list[float]]:
    """Return the loss of the first steps of a fine-tuning on the processor, and its two parts, CCC's and KL's."""
    seen: list[list[float]] = []
    original = Session._step

    def watched(*arguments):
        seen.append(original(*arguments))
        if len(seen) == STEPS:
            raise StopIteration
        return seen[-1]

    recipe = read_recipe(FinetuneRecipe, shipped("train", "finetune"), SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "_step", watched)
        with pytest.raises(StopIteration):
            finetune(base, data, recipe, new, device="cpu")
    return np.array(seen).round(7).tolist()


@pytest.mark.slow
def test_the_first_losses_are_those_that_were_committed(small_store, small_dataset, tmp_path):
    kept = json.loads(GOLDEN.read_text())["loss_ccc_kl"]
    found = first_losses(fixed_run(small_store, tmp_path / "base"), small_dataset, tmp_path / "new")
    off = np.abs(np.array(found) - np.array(kept)).max()
    assert off < BOUND, f"off by {off:.1e}; if that is meant: python -m {__spec__.name}"


def make() -> None:
    """Write the golden run."""
    with tempfile.TemporaryDirectory() as folder:
        data, store = Path(folder) / "data", Path(folder) / "store.zarr"
        draw_small(data)
        demo_features(data, store)
        base = fixed_run(store, Path(folder) / "base")
        rows = ",\n  ".join(json.dumps(row) for row in first_losses(base, data, Path(folder) / "new"))
        GOLDEN.write_text(f'{{"loss_ccc_kl": [\n  {rows}\n]}}\n')


if __name__ == "__main__":
    make()
