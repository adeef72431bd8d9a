"""Evaluated runs to report on, made in a second or two of a planted store."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.planted import plant_store
from tests.training.small import SMALL
from vaprompt import FeatureStore
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.recipes import validated
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

EVIL = "<img src=x onerror=alert(1)></script><script>window.stolen=1</script>"
LONG = "very " * 2000 + "long end"


def make_run(store: Path, run: Path, *, every: int | None = None, smooth: bool = False, **changes: Any) -> Path:
    """Train for two epochs and evaluate."""
    recipe = validated(TrainRecipe, SMALL | {"epochs": 2} | changes, where="test")
    train(store, recipe, run, device="cpu")
    evaluate(run, every=every, tune_smoothing=smooth, device="cpu")
    return run


def planted(folder: Path, **options: Any) -> Path:
    return plant_store(folder / "store.zarr", **options)


def hostile_run(folder: Path) -> Path:
    """Return a run whose phrases, notes, data set and versions are whatever somebody cares to write."""
    store = planted(folder, train=3, validation=2)
    phrases = [f"{EVIL} {number}" for number in range(8)] + [LONG]
    templates = ["a face of {}"]
    texts = [template.replace("{}", phrase) for phrase in phrases for template in templates]
    random = np.random.default_rng(3)
    opened = FeatureStore.open(store)
    rows = {text: random.normal(size=24).astype(np.float32) for text in texts}
    opened.write_text(rows, {"encoder": "planted"})
    run = make_run(store, folder / "run", regions={"phrases": phrases, "templates": templates})
    for name in ("run.json", "evaluation.json"):
        facts = json.loads((run / name).read_text())
        if name == "run.json":
            facts["store"]["dataset"]["name"] = EVIL
            facts["store"]["dataset"]["layout"] = LONG
            facts["made_by"]["torch"] = EVIL
        else:
            facts["notes"] += [EVIL, LONG]
        (run / name).write_text(json.dumps(facts))
    return run
