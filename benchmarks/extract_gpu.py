"""Measures extraction on one GPU: the encoders alone over sizes of batch, the whole pipeline, and where its limit is.

    python benchmarks/extract_gpu.py --out extract_gpu.json [--seconds 170] [--no-compile] [--cpu]

Encoders are of full size with random weights. What is known is written to `--out` after every part, the most important
parts come first, and a part for which there is no time any more is left out and named; so it can be stopped at any
moment. The encoder alone is fed from memory, with as many batches in flight as in the pipeline; pictures are face crops
of 112 x 112, resized on the device. The pipeline reads jpgs, whole frames or sound that are made on the spot.
`--cpu` also runs `two_cores.py`: the processor against the straightforward loop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from material import material

from vaprompt.datasets.base import Dataset
from vaprompt.devices import cores
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.encoders.tower import DTYPES
from vaprompt.extraction import local
from vaprompt.extraction.batch_size import ENOUGH, in_flight, own_stream
from vaprompt.extraction.engine import SETTING
from vaprompt.extraction.handover import pictures_together, stored, windows_on
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe, PromptRecipe
from vaprompt.extraction.stages import log_file

PACKAGES = ("torch", "torchvision", "torchaudio", "open_clip_torch", "transformers", "av", "pillow", "numpy", "zarr")
PRECISIONS = ("bf16", "fp16")
PICTURES, CLIPS = (32, 64, 128, 256, 512), (8, 16, 32, 64)
"""Sizes of batch that are tried."""
WINDOW, HOP, RATE = 10.0, 1.0, 16000
GIGA = 1e9
PRODUCT = 4096
"""Rows and columns of the product that tells what the device can do."""


def main() -> None:
    """Measure, print, and write as it comes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path)
    options.add_argument("--device", default="cuda")
    options.add_argument("--seconds", type=float, default=170.0, help="after which no further part is begun")
    options.add_argument("--videos", type=int, default=16, help="videos of the pipeline's input")
    options.add_argument("--crops", type=int, default=3000, help="face crops of each, in the mean")
    options.add_argument("--no-compile", action="store_true")
    options.add_argument("--cpu", action="store_true")
    options.add_argument("--tiny", action="store_true", help="miniature networks and input, to try this script")
    chosen = options.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here")
        return
    with tempfile.TemporaryDirectory() as folder:
        Bench(Path(folder), chosen).run()


class Bench:
    """What all parts share: the encoders, the input, and the report."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        """Begin the report."""
        self.folder, self.options, self.device = folder, options, options.device
        self.started = time.perf_counter()
        self.report: dict[str, Any] = {"machine": machine(self.device), "versions": versions(), "seconds": {}}
        self.sizes = {"image": 256, "audio": 32}
        self.speeds: dict[str, float] = {}
        self.loaded: dict[tuple[str, str, bool], Any] = {}

    def run(self) -> None:
        """Do all parts, in the order of their importance."""
        self.part("products", lambda: products(self.device))
        self.part("images alone, bf16", lambda: self.sweep("image", "bf16"))
        self.part("pipeline, crops", lambda: self.crops(None))
        self.part("clips alone, bf16", lambda: self.sweep("audio", "bf16"))
        self.part("pipeline, sound", self.sound)
        self.part("pipeline, whole frames", self.frames)
        self.part("pipeline, crops, decoded in threads", lambda: self.crops("0"))
        self.part("reading crops alone", self.reading)
        self.part("pictures made ready on the device", self.ready)
        for precision in PRECISIONS[1:]:
            self.part(f"images alone, {precision}", partial(self.sweep, "image", precision))
            self.part(f"clips alone, {precision}", partial(self.sweep, "audio", precision))
        if self.options.cpu:
            self.part("two cores of the processor", self.processor)
        if not self.options.no_compile:
            self.part("images alone, compiled", lambda: self.compiled("image"))
            self.part("clips alone, compiled", lambda: self.compiled("audio"))
        self.write()

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Do a part and write down what it gives, or why it does not."""
        left = self.options.seconds - (time.perf_counter() - self.started)
        start = time.perf_counter()
        if left <= 0:
            self.report[name] = "left out: no time"
        else:
            try:
                self.report[name] = work()
            except Exception as error:  # what can be measured is, whatever cannot
                traceback.print_exc()
                self.report[name] = f"failed: {type(error).__name__}: {error}"
        self.report["seconds"][name] = round(time.perf_counter() - start, 1)
        print(f"{time.perf_counter() - self.started:6.1f} s  {name}: {json.dumps(self.report[name])}", flush=True)
        self.write()

    def write(self) -> None:
        """Write what is known so far, with the ratios that follow from it."""
        pairs = {
            "image_pipeline_to_encoder": ("crops", "image"),
            "audio_pipeline_to_encoder": ("sound", "audio"),
        }
        self.report["ratios"] = {
            name: round(self.speeds[above] / self.speeds[below], 3)
            for name, (above, below) in pairs.items()
            if above in self.speeds and below in self.speeds
        }
        if self.options.out is not None:
            self.options.out.write_text(json.dumps(self.report, indent=2) + "\n", encoding="utf-8")

    def encoder(self, stream: str, precision: str, *, compiled: bool = False) -> Any:
        """Return an encoder; each is loaded once."""
        key = (stream, precision, compiled)
        if key not in self.loaded:
            recipe = self.recipe(stream, precision).model_copy(update={"compile": compiled})
            self.loaded[key] = (image_encoder if stream == "image" else audio_encoder)(recipe, self.device)
        return self.loaded[key]

    def recipe(self, stream: str, precision: str) -> Any:
        """Return an encoder's recipe, with the best size of batch that is known."""
        common: dict[str, Any] = {"weights": "random:0", "precision": precision, "batch": self.sizes[stream]}
        if self.options.tiny:
            common["model"] = "embedded"
        if stream == "image":
            return ImageEncoderRecipe(**common)
        return AudioEncoderRecipe(**common, window=WINDOW, hop=HOP)

    def items(self, stream: str, count: int) -> Any:
        """Return so many face crops, or windows of sound."""
        if stream == "image":
            return np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
        return np.random.default_rng(0).random((count, round(WINDOW * RATE)), dtype=np.float32) - np.float32(0.5)

    def sweep(self, stream: str, precision: str) -> dict[str, Any]:
        """Return items a second of an encoder alone for each size of batch, and keep the best size."""
        encoder, candidates = self.encoder(stream, precision), PICTURES if stream == "image" else CLIPS
        if self.options.tiny:
            candidates = candidates[:2]
        items = self.items(stream, candidates[-1])
        found: dict[int, float] = {}
        with self.threads() as pool:
            for size in candidates:
                try:
                    found[size] = alone(pool, partial(self.encoded, encoder, items[:size]), size)
                except torch.OutOfMemoryError:
                    break
        best = max(found.values())
        if precision == "bf16":
            # As `auto` chooses: the largest of those that are as fast as the best.
            self.sizes[stream] = max(size for size, speed in found.items() if speed >= ENOUGH * best)
            self.speeds[stream] = best
        size = self.sizes[stream]
        return {"per second": {str(size): round(speed, 1) for size, speed in found.items()}, "chosen": size}

    def encoded(self, encoder: Any, items: np.ndarray) -> np.ndarray:
        """Return the embeddings of items in memory, as an extraction keeps them."""
        if items.ndim == 4:
            return stored(encoder.encode(pictures_together([items], self.device)), "image")
        return stored(encoder.encode(windows_on([items], self.device)), "audio")

    def threads(self) -> ThreadPoolExecutor:
        """Return threads that encode as those of an extraction do."""
        return ThreadPoolExecutor(in_flight(self.device), initializer=own_stream, initargs=(self.device,))

    def compiled(self, stream: str) -> dict[str, Any]:
        """Return items a second of a compiled encoder, and the seconds that compiling takes."""
        start = time.perf_counter()
        encoder, size = self.encoder(stream, "bf16", compiled=True), self.sizes[stream]
        items = self.items(stream, size)
        self.encoded(encoder, items)
        compiling = time.perf_counter() - start
        with self.threads() as pool:
            speed = alone(pool, partial(self.encoded, encoder, items), size)
        return {"size": size, "per second": round(speed, 1), "seconds to compile": round(compiling, 1)}

    def crops(self, decoders: str | None) -> dict[str, Any]:
        """Return what the pipeline makes of face crops; decoded in threads it is slow, so that an eighth is enough."""
        videos = self.options.videos if decoders is None else max(1, self.options.videos // 8)
        found = self.extracted(self.material("crops", videos), "all", "image", decoders)
        if decoders is None:
            self.speeds["crops"] = found["per second"]
        return found

    def frames(self) -> dict[str, Any]:
        """Return what the pipeline makes of whole frames."""
        return self.extracted(self.material("frames", self.options.videos), "all", "image", None)

    def sound(self) -> dict[str, Any]:
        """Return what the pipeline makes of sound."""
        found = self.extracted(self.material("sound", self.options.videos), 0.001, "audio", None)
        self.speeds["sound"] = found["per second"]
        return found

    def extracted(self, dataset: Dataset, rate: Any, stream: str, decoders: str | None) -> dict[str, Any]:
        """Return items a second of an extraction in which the other stream is next to nothing, and its stages."""
        little = AudioEncoderRecipe(kind="logmel", steps=1, hop=60.0, batch=1)
        recipe = ExtractRecipe(
            image=self.recipe("image", "bf16"),
            image_rate=rate,
            audio=self.recipe("audio", "bf16") if stream == "audio" else little,
            prompts=PromptRecipe(phrases=("happy",), templates=("a {} face",)),
        )
        local.image_encoder = lambda recipe, device: self.encoder("image", "bf16")  # type: ignore[assignment]
        if stream == "audio":
            local.audio_encoder = lambda recipe, device: self.encoder("audio", "bf16")  # type: ignore[assignment]
        else:
            local.audio_encoder = audio_encoder
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, environment(SETTING, decoders):
            store = Path(folder) / "some.zarr"
            start = time.perf_counter()
            report = extract(dataset, recipe, store, device=self.device)
            whole = time.perf_counter() - start
            assert not report.failed, report.failed
            lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
        stages = next(line for line in lines if line["event"] == "stages")
        about = next(line for line in lines if line["event"] == "begin")
        name = "images" if stream == "image" else "clips"
        return {
            "items": stages["items"][name],
            "per second": stages["per_second"][name],
            "seconds with everything": round(whole, 2),
            "readers": about["readers"],
            "decoders": about["decoders"],
            "limit": stages["limit"],
            "seconds": stages["elapsed"],
            "queue fill": stages["queue_fill"],
            "per batch": stages["per_batch"][name],
            "seconds of all threads": stages["seconds"],
        }

    def material(self, kind: str, count: int) -> Dataset:
        """Write videos with crops, whole frames or sound, and return them as a data set."""
        seconds = 50 if self.options.tiny else 600
        return material(self.folder / kind, kind, count, crops=self.options.crops, seconds=seconds)

    def reading(self) -> dict[str, Any]:
        """Return crops read a second by processes, without any encoder, for several numbers of them."""
        from vaprompt.extraction.decoders import Decoders
        from vaprompt.extraction.decoding import WantedPictures
        from vaprompt.media.video import frame_times

        video = self.material("crops", 1).videos[0]
        assert video.media is not None
        wanted = WantedPictures(video.media, "all", frame_times(video.media), video.crops)
        found = {}
        for count in sorted({1, 2, 4, 8, min(16, cores())}):
            if count > cores():
                continue
            decoders = Decoders()

            def read(_: int, decoders: Decoders = decoders) -> int:
                return sum(len(some["rgb"]) for some in decoders.stretches(wanted))

            with ThreadPoolExecutor(count) as pool:
                list(pool.map(read, range(count)))  # the first time also pays for starting
                start = time.perf_counter()
                crops = sum(pool.map(read, range(count)))
                found[str(count)] = round(crops / (time.perf_counter() - start), 1)
            decoders.close()
        return found

    def ready(self) -> dict[str, Any]:
        """Return crops a second that the device alone resizes and normalises, in two ways."""
        from vaprompt.media.resize import fitted, preprocess

        image_BHWC = torch.from_numpy(self.items("image", 256)).to(self.device)
        mean = std = (0.5, 0.5, 0.5)

        def by_interpolation() -> torch.Tensor:
            image_BCHW = image_BHWC.permute(0, 3, 1, 2).float()
            return torch.nn.functional.interpolate(image_BCHW, (224, 224), mode="bicubic", antialias=True)

        return {
            "resized": self.on_device(lambda: fitted(image_BHWC, size=224)),
            "resized by torch's interpolation": self.on_device(by_interpolation),
            "resized and normalised": self.on_device(lambda: preprocess(image_BHWC, size=224, mean=mean, std=std)),
        }

    def on_device(self, work: Callable[[], object]) -> float:
        """Return pictures a second of work on batches of 256 that stay on the device."""
        work()
        synchronize(self.device)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < 0.5:
            work()
            synchronize(self.device)
            done += 256
        return round(done / (time.perf_counter() - start), 1)

    def processor(self) -> Any:
        """Return what two cores of the processor do, in a process that has no others; see `two_cores.py`."""
        script, tiny = Path(__file__).with_name("two_cores.py"), ["--tiny"] if self.options.tiny else []
        command = [sys.executable, str(script), *tiny]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)  # noqa: S603
        if ended.returncode:
            raise RuntimeError(ended.stderr[-2000:])
        return json.loads(ended.stdout)


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    facts = Path("/proc/cpuinfo").read_text()
    model = [line.split(":")[1].strip() for line in facts.splitlines() if line.startswith("model name")]
    cuda = torch.device(device).type == "cuda"
    return {
        "accelerator": torch.cuda.get_device_name(device) if cuda else None,
        "accelerators": torch.cuda.device_count(),
        "processor": model[0] if model else "unknown",
        "cores": cores(),
        "flags": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts],
        "load at the start": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def synchronize(device: str) -> None:
    """Wait until a device has done all it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def products(device: str) -> dict[str, float]:
    """Return the GFLOP/s of large matrix products, which nothing made of them can exceed."""
    found = {}
    size = PRODUCT if torch.device(device).type == "cuda" else 1024
    for name, dtype in {"fp32": torch.float32, **{kind: DTYPES[kind] for kind in PRECISIONS}}.items():
        left, right = torch.ones(2, size, size, dtype=dtype, device=device)
        left @ right
        synchronize(device)
        start, times = time.perf_counter(), 0
        while time.perf_counter() - start < 0.3:
            for _ in range(10):
                left @ right
            synchronize(device)
            times += 10
        found[name] = round(times * 2 * size**3 / (time.perf_counter() - start) / GIGA, 1)
    return found


def alone(pool: ThreadPoolExecutor, work: Callable[[], object], size: int, least: float = 1.0) -> float:
    """Return items a second of batches, as many in flight as the pool has threads, and as in the pipeline."""
    at_once = pool._max_workers
    for done in [pool.submit(work) for _ in range(at_once)]:
        done.result()
    start, items = time.perf_counter(), 0
    flying = [pool.submit(work) for _ in range(2 * at_once)]
    while flying:
        flying.pop(0).result()
        items += size
        if time.perf_counter() - start < least:
            flying.append(pool.submit(work))
    return items / (time.perf_counter() - start)


@contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable, or leave it unset, for a while."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


if __name__ == "__main__":
    main()
