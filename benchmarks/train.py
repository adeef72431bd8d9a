"""Measures training on cached features: against re-encoding, against HDF5 and a loader, at Aff-Wild2's size.

    python benchmarks/train.py --out benchmarks/train.json [--store full.zarr] [--scale 1.0] [--parts ...]

Every part is written to `--out` when it is done, beside what is there of the same machine, so that parts can be
measured in several goes. Features are random numbers with a planted signal (`planted.py`), networks have the paper's
sizes, encoders random weights. On a processor the baselines use all cores, as ours does two threads; they are in single
precision, whichever ours is in.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planted import plant
from quiet import Others
from torch import Tensor
from train_others import cached_ms, reencoding_s
from train_starts import forget, probe, reading_s

from vaprompt import FeatureStore
from vaprompt.caching import cache_folder
from vaprompt.model.direction import Direction
from vaprompt.model.estimator import Estimator
from vaprompt.recipes import read_recipe, shipped, validated
from vaprompt.regions import prototypes
from vaprompt.training.data import Resident, ResidentSplit
from vaprompt.training.keeping import settle
from vaprompt.training.optimiser import Optimiser
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import Run
from vaprompt.training.stack import Stack
from vaprompt.training.step import shards, step_on
from vaprompt.windows import cut_windows

PACKAGES = ("torch", "numpy", "zarr", "h5py", "open_clip_torch", "transformers")
BATCHES = (16, 64, 256)
STACKED = (1, 2, 4, 8, 16, 32)
PAPER = 16
SECONDS = 4.0
"""For which a kind of step is repeated, at most."""


def main() -> None:
    """Measure what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path)
    options.add_argument("--store", type=Path, help="a planted store; default: made, and deleted at the end")
    options.add_argument("--scale", type=float, default=1.0, help="share of Aff-Wild2's videos in a store that is made")
    options.add_argument("--device", default="cpu")
    options.add_argument("--parts", nargs="*", choices=list(PARTS), help="default: all that the device has")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), chosen)
        for name in chosen.parts or [name for name, (devices, _) in PARTS.items() if chosen.device[:3] in devices]:
            bench.part(name, PARTS[name][1])


class Bench:
    """What the parts share."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        """Begin, or go on with, a report."""
        self.folder, self.options, self.device = folder, options, torch.device(options.device)
        self.recipe = read_recipe(TrainRecipe, shipped("train", "paper"))
        self.report: dict[str, Any] = {}
        if options.out is not None and options.out.exists():
            self.report = json.loads(options.out.read_text())
        if self.report.get("machine") != machine(self.device):
            self.report = {"machine": machine(self.device), "versions": versions()}

    def part(self, name: str, work: Callable[[Bench], Any]) -> None:
        """Measure one part and write it down."""
        others, start = Others(), time.perf_counter()
        self.report[name] = work(self)
        took = {"seconds": round(time.perf_counter() - start, 1), "others": round(others.share(), 3)}
        self.report.setdefault("measured", {})[name] = took
        self.report["ratios"] = ratios(self.report)
        print(json.dumps({name: self.report[name], **took}), flush=True)
        if self.options.out is not None:
            self.options.out.write_text(json.dumps(self.report, indent=2) + "\n")

    @cached_property
    def store(self) -> Path:
        """The planted store."""
        given: Path | None = self.options.store
        if given is not None and given.exists():
            return given
        return plant(given or self.folder / "planted.zarr", self.options.scale)

    @cached_property
    def resident(self) -> Resident:
        """Its features, joined."""
        opened = FeatureStore.open(self.store)
        found = Resident(opened, self.recipe, device=str(self.device))
        settle()
        # As in every epoch but the first, nothing is to be read from the disk.
        for part in (found.features.image_NI, found.features.audio_ASC):
            if part is not None and part.device.type == "cpu":
                part.flatten()[::2048].sum()
        return found

    @cached_property
    def training(self) -> ResidentSplit:
        """The windows that are trained on."""
        return self.resident.split("train", self.recipe)

    def estimator(self, seed: int = 0) -> Estimator:
        """Return a fresh network of the paper's sizes."""
        torch.manual_seed(seed)
        regions = self.recipe.regions
        prototype_KE = prototypes(FeatureStore.open(self.store).text(), regions.phrases, regions.templates)
        dims = self.resident.dims
        return Estimator(
            self.recipe.model,
            image_dim=dims["image"],
            audio_dim=dims["audio"],
            prototype_KE=torch.from_numpy(prototype_KE),
        ).to(self.device)

    def seconds_of(self, step: Callable[[Tensor], object], batch: int, networks: int = 1) -> float:
        """Return the seconds of one step on random windows, the median of as many as fit into a few seconds."""
        generator, place = torch.Generator().manual_seed(0), self.training.features.place
        count = len(self.training.windows)

        def rows() -> Tensor:
            drawn = torch.randint(count, (networks, batch), generator=generator).to(place)
            return drawn if networks > 1 else drawn[0]

        for _ in range(3):
            step(rows())
        # Steps on a GPU are started one behind the other; waiting for each would be measured with it.
        together = 1 if self.device.type == "cpu" else 20
        each: list[float] = []
        while len(each) < 5 or (sum(each) * together < SECONDS and len(each) < 200):
            given = [rows() for _ in range(together)]
            self.wait()
            start = time.perf_counter()
            for row in given:
                step(row)
            self.wait()
            each.append((time.perf_counter() - start) / together)
        return float(np.median(each))

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def steps(bench: Bench) -> dict[str, Any]:
    """Return milliseconds a window of our step over sizes of batch, and the share of the recurrences at the paper's."""
    found: dict[str, Any] = {"windows": len(bench.training.windows)}
    for kind in ({"precision": "fp32"}, {"precision": "fp32", "graph": False}, {"precision": "bf16"}):
        if bench.device.type == "cpu" and "graph" in kind:
            continue
        for batch in BATCHES:
            recipe = changed(bench.recipe, batch=batch, compute=kind)
            estimator = bench.estimator().train()
            optimiser = Optimiser(estimator, recipe.optimiser, parts=shards(bench.device))
            step = step_on(bench.device)(estimator, optimiser, bench.training, recipe)
            name = " ".join([kind["precision"], *(["not recorded"] if "graph" in kind else [])])
            found[f"{name}, batch {batch}"] = round(1e3 * bench.seconds_of(step, batch) / batch, 4)
            if bench.device.type == "cpu" and batch == PAPER and kind["precision"] == "fp32":
                found["share in recurrences, batch 16"] = round(recurrent(bench, step), 3)
    found["seconds an epoch, batch 16"] = round(found["fp32, batch 16"] * found["windows"] / 1e3, 1)
    return found


def recurrent(bench: Bench, step: Callable[[Tensor], object]) -> float:
    """Return the share of both threads' time that recurrences take, forward and backward."""
    spent: list[float] = []

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            given = work(*arguments)
            spent.append(time.perf_counter() - start)
            return given

        return run

    kind = Direction
    before = kind.forward, kind.backward
    kind.forward, kind.backward = map(timed, before)  # type: ignore[method-assign]
    try:
        rows = torch.randint(len(bench.training.windows), (40, PAPER))
        step(rows[0])
        spent.clear()
        start = time.perf_counter()
        for row_B in rows:
            step(row_B)
        return sum(spent) / 2 / (time.perf_counter() - start)
    finally:
        kind.forward, kind.backward = before  # type: ignore[method-assign]


def stacked(bench: Bench) -> dict[str, Any]:
    """Return milliseconds of a step of several networks at once, and of as many single steps."""
    found: dict[str, Any] = {}
    sizes = STACKED if bench.device.type != "cpu" else STACKED[:3]
    for networks in sizes:
        recipes = [changed(bench.recipe, seed=seed) for seed in range(networks)]
        stack = Stack([bench.estimator(seed) for seed in range(networks)], recipes, [bench.training] * networks)

        def step(row_VB: Tensor, stack: Stack = stack, networks: int = networks) -> Tensor:
            return stack(row_VB if networks > 1 else row_VB.unsqueeze(0))

        took = bench.seconds_of(step, PAPER, networks)
        found[f"{networks} networks"] = {"ms": round(1e3 * took, 3), "ms a network": round(1e3 * took / networks, 3)}
    return found


def dense(bench: Bench) -> dict[str, Any]:
    """Return the seconds of a prediction for every validation frame, and of one forward for each by extrapolation."""
    opened = FeatureStore.open(bench.store)
    run = Run(bench.store, bench.recipe, {"dims": bench.resident.dims}, bench.estimator().eval(), str(bench.device))
    videos = opened.videos("validation")
    frames, took = 0, 0.0
    for name in videos:
        image, audio, time_F = opened.image(name), opened.audio(name), opened.labels(name).time_F
        start = time.perf_counter()
        run.predict_at(time_F, image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, time_F)
        took += time.perf_counter() - start
        frames += len(time_F)
    window = bench.recipe.window
    cut = cut_windows(
        time_F[:200],
        time_F=time_F,
        image_time_N=image.time_N,
        audio_end_A=audio.end_W,
        seconds=window.seconds,
        frames=window.frames,
    )
    start = time.perf_counter()
    for image_T, audio_row in zip(cut.image_WT, cut.audio_W, strict=True):
        run.predict_windows(image.embedding_ND[image_T][None], audio.embedding_WSD[audio_row][None])
    one = (time.perf_counter() - start) / len(cut.audio_W)
    return {
        "frames": frames,
        "seconds": round(took, 1),
        "ms a frame": round(1e3 * took / frames, 3),
        "ms a frame, one forward each": round(1e3 * one, 3),
    }


def starts(bench: Bench) -> dict[str, Any]:
    """Return seconds until the first step of `vaprompt train`, with nothing and with all in the cache, and memory.

    The first begins with the store on the disk alone: beside it stands what the disk takes by itself.

    The second training goes on to the end of an epoch, the others for some steps.
    """
    store, cache = bench.store, bench.folder / "cache"
    opened = FeatureStore.open(store)
    shapes = [opened.embedding_shape(kind, name) for kind in ("image", "audio") for name in opened.videos()]
    found: dict[str, Any] = {"features_gb": round(2 * sum(map(math.prod, shapes)) / 1e9, 2)}
    rows: dict[str, tuple[int, list[str]]] = {
        "first": (50, []),
        "again": (10**9, []),
        "again, --memory 2GB": (400, ["--memory", "2GB"]),
    }
    # What another run has left in memory would have to be put out of it first.
    forget(store, cache_folder())
    found["disk alone, s"] = reading_s(store)
    for name, (most, more) in rows.items():
        run = bench.folder / f"run {name}"
        found[name] = probe(
            ["train", store, "--run", run, "--set", "epochs=1", "--device", bench.device, *more], cache, most
        )
        if name == "again":
            line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
            found["epoch"] = {"whole command, s": found[name]["whole_s"], **line}
    return found


VARIANTS = {"seed": (0, 1), "loss.kl": (0.0, 0.5), "regions.sigma": (0.6,), "optimiser.learning_rate": (3e-4,)}
"""Of the sweep, each with one field changed."""

SWEPT = {"a twentieth": (0.05, "fp32"), "a hundredth": (0.01, "fp32"), "a twentieth in bf16": (0.05, "bf16")}
"""Of Aff-Wild2's videos, for sweeps: trainings of some twenty seconds, and shorter ones, of which half is the start."""


def sweep(bench: Bench) -> dict[str, Any]:
    """Return the seconds of a sweep of six variants, and of six separate trainings, on shares of the videos."""
    variants = [f"{field}={value}" for field, values in VARIANTS.items() for value in values]
    lines = [f'base = "{shipped("train", "paper")}"']
    for index, change in enumerate(variants):
        lines += ["[[variant]]", f'name = "v{index}"', f"set.{change}"]

    def call(*arguments: Any) -> float:
        whole = [sys.executable, "-m", "vaprompt", *map(str, arguments), "--device", str(bench.device)]
        start = time.perf_counter()
        subprocess.run(whole, check=True, capture_output=True)  # noqa: S603
        return time.perf_counter() - start

    found = {}
    for name, (share, precision) in SWEPT.items():
        common = ("--set", "epochs=2", "--set", f"compute.precision={precision}")
        folder = bench.folder / f"sweep of {name}"
        folder.mkdir()
        store, file = plant(folder / "small.zarr", share), folder / "sweep.toml"
        file.write_text("\n".join(lines) + "\n")
        call("train", store, "--run", folder / "warm", "--set", "epochs=1")
        separate = sum(
            call("train", store, "--run", folder / f"single{index}", *common, "--set", change)
            for index, change in enumerate(variants)
        )
        whole = call("sweep", store, file, "--runs", folder / "sweep", *common, "--no-score")
        found[name] = {"separate_s": round(separate, 1), "sweep_s": round(whole, 1)}
    return found


def changed(recipe: TrainRecipe, **changes: Any) -> TrainRecipe:
    """Return a recipe with some fields changed."""
    return validated(TrainRecipe, recipe.model_dump() | changes, where="benchmark")


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """Return what the parts that there are tell of each other."""
    found: dict[str, float] = {}
    ours, again, cached = report.get("steps"), report.get("reencoding"), report.get("hdf5")
    for precision, of_it in (("fp32", ""), ("bf16", " in bf16")):
        if ours and again:
            best = min(ours[f"{precision}, batch {batch}"] for batch in BATCHES)
            found[f"to_reencoding_batch16{of_it}"] = 1e3 * again["batch 16"] / ours[f"{precision}, batch 16"]
            found[f"to_reencoding_best{of_it}"] = 1e3 * min(again.values()) / best
        if ours and cached:
            for batch in BATCHES:
                usual = cached[f"batch {batch}, 2 workers"]
                found[f"to_hdf5_loader_batch{batch}{of_it}"] = usual / ours[f"{precision}, batch {batch}"]
    if "dense" in report:
        found["dense_to_per_frame"] = report["dense"]["ms a frame, one forward each"] / report["dense"]["ms a frame"]
    for name, row in report.get("sweep", {}).items():
        of_it = "" if name == next(iter(SWEPT)) else f" on {name}"
        found[f"sweep_to_separate{of_it}"] = row["sweep_s"] / row["separate_s"]
    if "stacked" in report:
        alone = ours["fp32, batch 16"] * PAPER if ours else report["stacked"]["1 networks"]["ms"]
        for name, row in report["stacked"].items():
            found[f"stacked {name} to single"] = alone / row["ms a network"]
    return {name: round(value, 3) for name, value in found.items()}


def machine(device: torch.device) -> dict[str, Any]:
    """Return what was measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    found = {"processor": model or platform.processor(), "cores": len(os.sched_getaffinity(0))}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def versions() -> dict[str, str]:
    """Return those that matter."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def hdf5(bench: Bench) -> dict[str, float]:
    """Return milliseconds a window of the usual cached way."""
    return cached_ms(bench.store, bench.recipe, bench.folder / "features.h5", bench.device, BATCHES, 2 * SECONDS)


def reencoding(bench: Bench) -> dict[str, float]:
    """Return seconds a window of a step that encodes."""
    return reencoding_s(bench.device, (1, 4, PAPER) if bench.device.type == "cpu" else (PAPER, 64))


PARTS: dict[str, tuple[tuple[str, ...], Callable[[Bench], Any]]] = {
    # First, while this process holds no features: they would leave less memory for what the disk brings.
    "starts": (("cpu", "cud"), starts),
    "steps": (("cpu", "cud"), steps),
    "stacked": (("cpu", "cud"), stacked),
    "hdf5": (("cpu", "cud"), hdf5),
    "reencoding": (("cpu", "cud"), reencoding),
    "dense": (("cpu", "cud"), dense),
    "sweep": (("cpu", "cud"), sweep),
}
"""Each with the devices that it is measured on."""


if __name__ == "__main__":
    main()
