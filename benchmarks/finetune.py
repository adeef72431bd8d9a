"""Measures fine-tuning: how many windows the encoders take, how many loading processes bring, and both together.

    python benchmarks/finetune.py [--device auto] [--encoders paper|embedded] [--limit 110] [--out FILE.json]

Encoders are the paper's, of full size with random weights, where there is a GPU, else the miniatures in the package.
Windows are the paper's: 20 pictures and 10 s of sound, 16 a step. The material is made on the spot: textured 112x112
crops as jpg, whole frames as they are kept in a scratch folder, sound of noise, and a 640x360 video to decode. A step
is forward, backward and AdamW; what does not fit the memory is recorded as such, and a processor is not asked for whole
batches. Loading is the best of a few rounds, a step the median of several, so that a busy machine disturbs them least;
how much others took of its cores is told. What is known is written to `--out` after every part, the most important
come first, and what `--limit` seconds leave no time for is left out and named. Under two minutes on a GPU; nothing is
fetched from a network.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from media import FRAMES, RATE, textured, write_video
from PIL import Image
from quiet import Others

from vaprompt.devices import pick_device
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.errors import RunError
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.finetuning.job import precision_of
from vaprompt.finetuning.recipe import AugmentationRecipe, FinetuneRecipe
from vaprompt.finetuning.requests import Fit, Load, Person, Prepare, Setup, Sound
from vaprompt.finetuning.scratch import sound_samples
from vaprompt.finetuning.session import Part, Session, collate
from vaprompt.finetuning.state import Learners, TuningState
from vaprompt.finetuning.step import RawEncoders
from vaprompt.finetuning.tuning import choose, save_memory, tuned_tensors
from vaprompt.finetuning.workers import Workers
from vaprompt.media.recipes import LogMelRecipe
from vaprompt.model.estimator import Estimator, ModelRecipe
from vaprompt.progress import SILENT
from vaprompt.training.data import LabelledWindows
from vaprompt.training.recipe import TrainRecipe

PACKAGES = ("torch", "open_clip_torch", "transformers", "av", "pillow", "numpy")
WINDOW, PICTURES, BATCH, CROPS, ROUNDS = 10.0, 20, 16, 300, 4
MIXED = AugmentationRecipe(flip=0.5, crop=0.1, brightness=0.2, gain=6, time_mask=100, band_mask=24)
STEPS: dict[str, dict[str, Any]] = {
    "all, whole batch, checkpointing": {},
    "all, whole batch": {"checkpointing": False},
    "last third, whole batch": {"image": {"tune": "last"}, "audio": {"tune": "last"}, "checkpointing": False},
    "all, 4 at once": {"at_once": 4, "checkpointing": False},
    "all, 4 at once, checkpointing": {"at_once": 4},
    "norms, whole batch, checkpointing": {"image": {"tune": "norms"}, "audio": {"tune": "norms"}},
    "heads alone": {"image": {"tune": "none"}, "audio": {"tune": "none"}},
}
ENCODERS = {
    "paper": (ImageEncoderRecipe(weights="random:0"), AudioEncoderRecipe(weights="random:0")),
    "embedded": (
        ImageEncoderRecipe(model="embedded", weights="embedded"),
        AudioEncoderRecipe(model="embedded", weights="embedded", steps=20),
    ),
}


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options.add_argument("--encoders", choices=sorted(ENCODERS), help="default: paper on a GPU, else embedded")
    options.add_argument("--workers", type=int, default=max(1, min(16, len(os.sched_getaffinity(0)) - 1)))
    options.add_argument("--seconds", type=float, default=3.0, help="of each measurement, at least")
    options.add_argument("--limit", type=float, default=110.0, help="seconds after which nothing more is begun")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    device = torch.device(pick_device(chosen.device))
    encoders = chosen.encoders or ("paper" if device.type == "cuda" else "embedded")
    others = Others() if device.type == "cpu" else None
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), encoders, chosen.workers, device, chosen.seconds, chosen.limit)
        report = {
            "machine": machine(device),
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "encoders": encoders,
            "precision": str(bench.dtype).removeprefix("torch."),
            "batch": BATCH,
        }
        for part in (bench.steps, bench.together, bench.loading):
            report[part.__name__] = part()
            report["left out"] = bench.left_out
            report["share of the cores that others took"] = None if others is None else round(others.share(), 3)
            report["seconds"] = round(time.perf_counter() - bench.started, 1)
            if chosen.out is not None:
                chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures depend on."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    model = [line for line in lines if line.startswith("model name")]
    return {
        "architecture": platform.machine(),
        "processor": model[0].split(":")[1].strip() if model else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load at the start": round(os.getloadavg()[0], 2),
    }


@dataclass(frozen=True)
class Endless:
    """Stands for the material of a training: windows of the same few files, as often as they are asked for."""

    template: Load

    def request(self, window: int, seed: tuple[int, ...] | None = None) -> Load:
        """Return a window's request; each takes other pictures and another second of sound."""
        first = window * 7 % (CROPS - PICTURES * 10)
        frames = tuple(range(first + 1, first + PICTURES * 10 + 1, 10))
        return self.template.model_copy(update={"frames": frames, "end": WINDOW + window % 50, "seed": seed})


class Bench:
    """The material, the networks, and what is measured with them."""

    def __init__(
        self, folder: Path, encoders: str, workers: int, device: torch.device, seconds: float, limit: float
    ) -> None:
        """Make the material and load the networks."""
        self.folder, self.workers, self.device, self.seconds = folder, workers, device, seconds
        self.started = time.perf_counter()
        self.end = self.started + limit
        self.left_out: list[str] = []
        self.dtype = precision_of("auto", self.device)
        self.networks = TrainableImage(ENCODERS[encoders][0]), TrainableAudio(ENCODERS[encoders][1])
        fingerprint = self.networks[0].fingerprint
        self.fit = Fit(**{key: fingerprint[key] for key in Fit.model_fields})
        self.paper = self.fit.model_copy(update={"size": 224})
        face_HWC = textured(112, 112)
        (folder / "crops").mkdir()
        for frame in range(1, CROPS + 1):
            picture = Image.fromarray(np.roll(face_HWC, frame, axis=1))
            picture.save(folder / "crops" / f"{frame:05d}.jpg", quality=95)
        for fit in {self.fit.size: self.fit, self.paper.size: self.paper}.values():
            side = fit.size
            whole_HWC = textured(side + 10, side + 10)[:side, :side]
            whole_HWC = np.resize(whole_HWC, (side, side, 3))
            kept = np.stack([np.roll(whole_HWC, frame, axis=1) for frame in range(CROPS + 1)])
            np.save(folder / f"kept{side}.npy", kept)
        samples = sound_samples(60.0 + WINDOW, rate=16000, before=WINDOW)
        np.save(folder / "sound.npy", np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32))
        self.crops = Load(crops=folder / "crops", sound="sound.npy")
        self.kept, self.kept_paper = (
            Load(pictures=f"kept{fit.size}.npy", sound="sound.npy") for fit in (self.fit, self.paper)
        )

    def late(self, part: str) -> bool:
        """Return whether there is no time any more, and note what is left out for that."""
        if time.perf_counter() < self.end:
            return False
        self.left_out.append(part)
        return True

    def setup(self, faces: str = "crops", fit: Fit | None = None) -> Setup:
        """Return what loading processes are told; they augment windows whose requests have a seed."""
        return Setup(
            scratch=self.folder,
            faces=faces,
            face=FaceRecipe(),
            fit=fit or self.fit,
            sound=Sound(window=WINDOW, mel=LogMelRecipe()),
            augmentation=MIXED,
        )

    def steps(self) -> dict[str, Any]:
        """Return windows a second of each way to train, from windows that lie in memory, and the memory it takes."""
        with Workers(self.setup(), 1) as workers:
            material = Endless(self.crops)
            windows = list(workers.windows(material.request(window) for window in range(BATCH)))
        batch = collate(windows, pinned=False)
        batch = type(batch)(*(value.to(self.device) for value in (batch.image_BTSSC, batch.mel_BFM)))
        found = {}
        for name, changes in STEPS.items():
            if (self.device.type == "cpu" and "whole batch" in name) or self.late(name):
                continue
            self.free()
            try:
                found[name] = self.step_figures(self.session(changes), batch)
            except torch.OutOfMemoryError:
                found[name] = {"fits": False}
            except RunError as error:  # the session's own words for the same
                if "do not fit into the memory" not in error.fault:
                    raise
                found[name] = {"fits": False}
            print(name, found[name], file=sys.stderr, flush=True)
        return found

    def step_figures(self, session: Session, batch: Any) -> dict[str, Any]:
        """Return windows a second of one way to train, and the memory that it takes."""
        part, row_B = Part(labels(BATCH, self.device), 0), torch.arange(BATCH)
        session.encoders.set_learning(True)
        session.estimator.train()
        took: list[float] = []
        warm = 2 if self.device.type == "cuda" else 1
        for step in itertools.count(1):
            start = time.perf_counter()
            session._step(batch, part, row_B, 1, step)  # ends with the loss on the processor
            self.wait()
            took.append(time.perf_counter() - start)
            if len(took) >= warm + 3 and sum(took[warm:]) > self.seconds:
                break
        figures = {"windows_per_second": round(BATCH / statistics.median(took[warm:]), 2)}
        if self.device.type == "cuda":
            figures["peak_GB"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
        return figures

    def together(self) -> dict[str, Any]:
        """Return windows a second of whole epochs, loading and steps side by side, as a training has them."""
        found = {}
        gpu = self.device.type == "cuda"
        changes, fewest = (STEPS["all, whole batch, checkpointing"], 4) if gpu else ({"at_once": 4}, 2)
        processes = f"{self.workers} process{'es' if self.workers > 1 else ''}"
        with Workers(self.setup(), self.workers) as workers:
            for name, template in ((f"crops, {processes}", self.crops), (f"kept pictures, {processes}", self.kept)):
                if self.late(name):
                    continue
                self.free()
                steps = fewest
                for _ in range(2):  # the first epoch warms up
                    session = self.session(changes, template, workers)
                    part = Part(labels(BATCH * steps, self.device), 0)
                    start = time.perf_counter()
                    with SILENT.task("epoch") as task:
                        session.train_epoch(TuningState(), part, task, lambda state: None)
                    self.wait()
                    took = time.perf_counter() - start
                    steps = max(fewest, min(100, round(steps * self.seconds / took)))
                found[name] = {"windows_per_second": round(len(part.windows) / took, 2)}
                print("together", name, found[name], file=sys.stderr, flush=True)
        return found

    def loading(self) -> dict[str, Any]:
        """Return windows a second by kind of pictures, the memory of a process, and how fast media are decoded.

        Pictures are 224x224, the paper's size, whatever the networks of the other measurements take.
        """
        found: dict[str, Any] = {}
        wanted = {"crops": (self.crops, False), "kept pictures": (self.kept_paper, False)}
        for count in dict.fromkeys((1, self.workers)):
            if self.late(f"loading by {count}"):
                continue
            with Workers(self.setup(fit=self.paper), count) as workers:
                processes = f"{count} process{'es' if count > 1 else ''}"
                for name, (template, changed) in {
                    **wanted, **({"crops, augmented": (self.crops, True)} if count == 1 else {})
                }.items():  # fmt: skip
                    found[f"{name}, {processes}"] = self.loaded_per_second(workers, count, template, changed)
        name = "seconds of 640x360 video decoded a second, 1 process"
        if not self.late(name):
            found[name] = self.decoded_per_second()
        return found

    def loaded_per_second(self, workers: Workers, count: int, template: Load, augmented: bool) -> dict[str, Any]:
        """Return how many windows so many processes bring, and the memory that is one's own, as far as it is told."""
        material = Endless(template)
        requests = (material.request(window, (0, window) if augmented else None) for window in itertools.count())
        with closing(workers.windows(requests)) as windows:
            for _ in range(4 * count):
                next(windows)
            speeds = []
            for _ in range(ROUNDS):
                start, done = time.perf_counter(), 0
                while time.perf_counter() - start < self.seconds / ROUNDS:
                    next(windows)
                    done += 1
                speeds.append(done / (time.perf_counter() - start))
        memory = own_memory(workers._workers[0].process.pid)
        return {"windows_per_second": round(max(speeds), 1), "own_MB_a_process": memory}

    def decoded_per_second(self) -> float:
        """Return the seconds of video that one process decodes a second, a fifth of its frames and all sound kept."""
        video = self.folder / "video.mp4"
        write_video(video, textured(360, 640))
        frames = tuple(range(1, FRAMES + 1, 5))
        person = Person(
            name="video", frames=frames, times=tuple((frame - 1) / RATE for frame in frames), file="decoded.npy"
        )
        request = Prepare(media=video, people=(person,), sharing=("video",), sound="heard.npy", last=FRAMES / RATE)
        best = np.inf
        with Workers(self.setup("frames", self.paper), 1) as workers:
            for _ in range(3):
                start = time.perf_counter()
                list(workers.prepare([request]))
                best = min(best, time.perf_counter() - start)
        return round(FRAMES / RATE / best, 1)

    def session(self, changes: dict[str, Any], template: Load | None = None, workers: Workers | None = None) -> Session:
        """Return a training of one kind, from fresh networks."""
        image, audio = (copy.deepcopy(network) for network in self.networks)
        third = {
            stream: {**changes[stream], "blocks": -(-len(network.anatomy.blocks) // 3)}
            for stream, network in (("image", image), ("audio", audio))
            if stream in changes
        }
        recipe = FinetuneRecipe.model_validate({"at_once": BATCH, **changes, **third})
        learning = {"image": choose(image, recipe.image, "image"), "audio": choose(audio, recipe.audio, "audio")}
        if recipe.checkpointing:
            save_memory(image)
            save_memory(audio)
        encoders = RawEncoders(image, audio, learning, self.dtype).to(self.device)
        sound = int(audio.network.config.hidden_size)
        prototype_KE = torch.nn.functional.normalize(torch.randn(9, image.dim), dim=-1)
        estimator = Estimator(ModelRecipe(), image_dim=image.dim, audio_dim=sound, prototype_KE=prototype_KE)
        estimator.to(self.device)
        tuned = dict(tuned_tensors(learning))
        groups = [{"params": list(estimator.parameters()), "lr": 1e-4}]
        groups += [{"params": list(tuned.values()), "lr": 3e-6}] if tuned else []
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=True)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        heads = TrainRecipe(batch=BATCH)
        material: Any = Endless(template or self.crops)
        loading: Any = workers
        learners = Learners(estimator, tuned, optimizer, scaler)
        return Session(self.folder, recipe, heads, encoders, estimator, learners, material, loading, self.device)

    def wait(self) -> None:
        """Wait until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Begin to count the memory anew."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def labels(count: int, device: torch.device) -> LabelledWindows:
    """Return random labels of so many windows."""
    generator = torch.Generator().manual_seed(0)
    value_W2 = torch.rand(count, 2, generator=generator) * 2 - 1
    fields = {
        "image_WT": torch.zeros(count, PICTURES, dtype=torch.int64),
        "audio_W": torch.zeros(count, dtype=torch.int64),
        "value_W2": value_W2,
        "soft_WK": torch.softmax(torch.randn(count, 9, generator=generator), dim=1),
        "step_value_WT2": value_W2[:, None].expand(-1, PICTURES, -1).contiguous(),
        "step_valid_WT": torch.ones(count, PICTURES, dtype=torch.bool),
        "video_W": torch.zeros(count, dtype=torch.int64),
    }
    return LabelledWindows(**{name: value.to(device) for name, value in fields.items()})


def own_memory(process: int) -> int | None:
    """Return the megabytes of a process that it shares with no other; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)


if __name__ == "__main__":
    main()
