"""A recipe of seconds, and what a run that is trained by it leaves."""

from pathlib import Path

from vaprompt.recipes import validated
from vaprompt.training.recipe import TrainRecipe

SMALL = {
    "window": {"seconds": 4.0, "stride": 1.0, "frames": 8},
    "model": {"width": 32, "temporal": {"units": 32}, "fusion": {"feedforward": 64}},
    "optimiser": {"learning_rate": 2e-3},
    "epochs": 6,
    "patience": 6,
}


def recipe(**changes):
    return validated(TrainRecipe, SMALL | changes, where="test")


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("checkpoint.safetensors", "metrics.jsonl", "recipe.toml")}


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())
