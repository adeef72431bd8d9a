"""The idea at work: what the KL term and each modality are worth on a store, over several seeds.

    python benchmarks/ablation.py [STORE [RECIPE]] [--seeds 3] [--out benchmarks/ablation.json]

The store is that of `make demo` where none is given.

Trains each variant once a seed, evaluates it on the validation split, and writes official mean CCCs with their
mean and spread (standard deviation, ddof 1), the ridge baseline, and what the table is to be read with.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vaprompt.evaluation.evaluate import evaluate
from vaprompt.recipes import read_recipe
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

ROOT = Path(__file__).parents[1]

VARIANTS: dict[str, list[str]] = {
    "both, lambda 0": ["loss.kl=0"],
    "both, lambda 0.2, semantic fused": [],
    "both, lambda 0.2, semantic clip (as released)": ["model.prompt.semantic=clip"],
    "image alone, lambda 0.2, semantic fused": ['model.modalities=["image"]'],
    "sound alone, lambda 0.2, semantic fused": ['model.modalities=["audio"]'],
}


def measure(store: Path, recipe: Path, overrides: list[str], seeds: int) -> dict[str, Any]:
    """Return one variant's official scores over the seeds, and the ridge baseline's."""
    runs = []
    ridge: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            run = Path(folder) / str(seed)
            trained = train(store, read_recipe(TrainRecipe, recipe, [*overrides, f"seed={seed}"]), run, device="cpu")
            scored = evaluate(run, store=store, device="cpu").result
            ridge = scored["ridge"]["official"]
            runs.append({"seed": seed, "epochs": trained.epochs, "seconds": trained.seconds, **scored["official"]})
            print(f"  seed {seed}: {scored['official']['mean']:.3f} in {trained.seconds:.0f} s", flush=True)
    summary = {
        axis: {
            "mean": statistics.mean(run[axis] for run in runs),
            "spread": statistics.stdev([run[axis] for run in runs]) if seeds > 1 else 0.0,
        }
        for axis in ("valence", "arousal", "mean")
    }
    return {"set": overrides, "official": summary, "ridge_official": ridge, "runs": runs}


def main() -> None:
    """Measure every variant and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?", default=ROOT / "demo/store.zarr")
    parser.add_argument("recipe", type=Path, nargs="?", default=ROOT / "train/demo.toml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows = {}
    for name, overrides in VARIANTS.items():
        print(name, flush=True)
        rows[name] = measure(arguments.store, arguments.recipe, overrides, arguments.seeds)
    store = FeatureStore.open(arguments.store)
    result = {
        "dataset": store.dataset,
        "extraction": {stream: store.recipe[stream]["weights"] for stream in ("image", "audio")},
        "recipe": arguments.recipe.name,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": version("torch"),
        },
        "seconds": time.perf_counter() - started,
        "variants": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print("\n| variant | valence | arousal | mean |\n|---|---|---|---|")
    for name, row in rows.items():
        cells = (
            f"{row['official'][axis]['mean']:.3f} ± {row['official'][axis]['spread']:.3f}" for axis in row["official"]
        )
        print(f"| {name} | {' | '.join(cells)} |")
    for name in list(rows)[1:2] + list(rows)[3:]:
        ridge = rows[name]["ridge_official"]
        print(
            f"| ridge, {name.split(',')[0]} | {ridge['valence']:.3f} | {ridge['arousal']:.3f} | {ridge['mean']:.3f} |"
        )


if __name__ == "__main__":
    main()
