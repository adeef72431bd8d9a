"""Measures extraction: the whole pipeline, the encoders alone, and the straightforward loop, on one machine and input.

    python benchmarks/extract.py [--rounds 3] [--no-memory] [--out benchmarks/extract.json]

Encoders are of full size with random weights. The straightforward loop is open_clip's PIL transform and network in
fp32, 32 crops of one video at once; for sound transformers' feature extractor and AST in fp32, one clip at a time. The
encoder alone is fed from memory. Each round measures all of them, one right after the other, and a ratio is the median
of the rounds' ratios, so that a machine that is busy now and then disturbs them least. Memory is measured in processes
of their own, on 1080p videos of 10 and 60 minutes, one encoded minute repeated without encoding it again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
import open_clip
import torch
from media import FRAMES, textured, write_video
from open_clip.transform import image_transform
from PIL import Image
from torch.nn.functional import cosine_similarity
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from vaprompt.datasets.base import Dataset, Video
from vaprompt.encoders.pooling import patches_over_time
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction import local, pipeline
from vaprompt.extraction.batch_size import IN_FLIGHT, fastest, sizes
from vaprompt.extraction.recipe import ExtractRecipe, PromptRecipe
from vaprompt.extraction.stages import log_file
from vaprompt.media.resize import preprocess
from vaprompt.store import FeatureStore

PACKAGES = ("torch", "torchvision", "torchaudio", "open_clip_torch", "transformers", "av", "pillow", "numpy", "zarr")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VIDEOS, CROPS, LOOP = 2, 32, 32
"""Videos of the pipeline's input, crops of each, and pictures of the loop's batch."""
CLIPS = 4
"""Clips of a measurement of the loop, and of the encoder alone."""
WINDOW, HOP, RATE = 10.0, 1.0, 16000
MINUTES = (10, 60)


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--no-memory", action="store_true")
    options.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.memory_of is not None:
        print(json.dumps(memory_of(chosen.memory_of)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "machine": machine(),
            "versions": {name: metadata.version(name) for name in PACKAGES},
            **Bench(Path(folder), chosen.rounds).measure(),
        }
        if not chosen.no_memory:
            report["memory"] = memory(Path(folder))
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and how busy the machine is with other things."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "architecture": platform.machine(),
        "processor": model[0].split(":")[1].strip() if model else "unknown",
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16 matrix units": half_is_fast(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load at the start": round(os.getloadavg()[0], 2),
    }


def half_is_fast() -> bool:
    """Say whether the processor multiplies bf16 matrices in hardware."""
    flags = Path("/proc/cpuinfo").read_text()
    return "amx_bf16" in flags or "avx512_bf16" in flags


class Bench:
    """The encoders and their input, shared by all measurements."""

    def __init__(self, folder: Path, rounds: int) -> None:
        """Make the material and load what is measured."""
        self.folder, self.rounds = folder, rounds
        self.precision = "bf16" if half_is_fast() else "fp32"
        self.dataset = material(folder)
        self.jpgs = [path.read_bytes() for path in sorted((folder / "crops0").iterdir())[:LOOP]]
        self.image_BHWC = np.stack([decoded(jpg) for jpg in self.jpgs])
        self.wave_BL = torch.rand(CLIPS, round(WINDOW * RATE), generator=torch.Generator().manual_seed(0)) - 0.5
        torch.manual_seed(0)
        self.clip = open_clip.create_model("ViT-B-16-quickgelu").eval()
        torch.manual_seed(0)
        self.ast = ASTModel(ASTConfig()).eval()
        self.extractor = ASTFeatureExtractor()
        self.transform = image_transform(224, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)
        self.seeing = {kind: image_encoder(image_recipe(kind)) for kind in {"fp32", self.precision}}
        self.hearing = {kind: audio_encoder(audio_recipe(kind)) for kind in {"fp32", self.precision}}

    def measure(self) -> dict[str, Any]:
        """Return every row, and the ratios."""
        local.image_encoder = lambda recipe, device: self.seeing[recipe.precision]
        local.audio_encoder = lambda recipe, device: self.hearing[recipe.precision]
        say("batch sizes")
        image_sweep, image_batch = self.sweep("image")
        audio_sweep, audio_batch = self.sweep("audio")
        rows = []
        for number in range(self.rounds):
            say(f"round {number + 1} of {self.rounds}")
            rows.append(self.round(image_batch, audio_batch))
        resizing = [self.resizing() for _ in range(2 * self.rounds)]

        def ratio(above: str, below: str, of: list[dict[str, float]]) -> float:
            return round(statistics.median(row[above] / row[below] for row in of), 3)

        best = [
            sweep["speeds"][str(size)] / max(sweep["speeds"].values())
            for sweep, size in ((image_sweep, image_batch), (audio_sweep, audio_batch))
        ]
        return {
            "precision": self.precision,
            "batch": {"image": image_sweep, "audio": audio_sweep},
            "rows": {"rounds, per second": rows, "pictures made ready, per second and core": resizing},
            "cosine": self.cosines(),
            "ratios": {
                "image_pipeline_to_encoder": ratio("images, pipeline", "images, encoder alone", rows),
                "audio_pipeline_to_encoder": ratio("clips, pipeline", "clips, encoder alone", rows),
                "image_to_loop": ratio("images, pipeline", "images, loop", rows),
                "audio_to_loop": ratio("clips, pipeline", "clips, loop", rows),
                "image_fp32_to_loop": ratio("images, pipeline in fp32", "images, loop", rows),
                "resize_to_pil": ratio("jpg to tensor", "jpg to tensor by PIL", resizing),
                "auto_to_best_batch": round(min(best), 3),
            },
        }

    def sweep(self, stream: str) -> tuple[dict[str, Any], int]:
        """Return the speed of every size of batch, measured here, and what `auto` chooses by its own measurement."""
        candidates = sizes("cpu", stream)

        def encode(count: int) -> object:
            if stream == "image":
                return self.seeing[self.precision].encode(self.image_BHWC[:count])
            return self.hearing[self.precision].encode(self.wave_BL[:count])

        chosen, measured = fastest(encode, candidates)
        say(f"{stream}: auto takes {chosen} of {measured}")
        speeds: dict[int, list[float]] = {size: [] for size in candidates}
        for _ in range(self.rounds):
            for size in candidates:
                speeds[size].append(self.alone(encode, size, 12 if stream == "image" else 4))
        medians = {str(size): round(statistics.median(found), 3) for size, found in speeds.items()}
        return {"auto": chosen, "speeds": medians}, chosen

    def alone(self, encode: Callable[[int], object], size: int, items: int) -> float:
        """Return how many items an encoder makes of batches from memory, as many in flight as in the pipeline."""
        batches = max(IN_FLIGHT, items // size)
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            start = time.perf_counter()
            for done in [pool.submit(encode, size) for _ in range(batches)]:
                done.result()
            return batches * size / (time.perf_counter() - start)

    def round(self, image_batch: int, audio_batch: int) -> dict[str, float]:
        """Return one measurement of everything, one right after the other."""
        seeing, hearing = self.seeing[self.precision], self.hearing[self.precision]
        row = {"load": os.getloadavg()[0]}
        row["images, loop"] = per_second(self.image_loop, LOOP)
        row["images, encoder alone"] = self.alone(
            lambda count: seeing.encode(self.image_BHWC[:count]), image_batch, LOOP
        )
        row["images, pipeline"] = self.extracted("images", self.precision, image_batch)
        if self.precision == "fp32":
            row["images, pipeline in fp32"] = row["images, pipeline"]
        else:
            row["images, pipeline in fp32"] = self.extracted("images", "fp32", image_batch)
        row["clips, loop"] = per_second(self.audio_loop, CLIPS)
        row["clips, encoder alone"] = self.alone(
            lambda count: hearing.encode(self.wave_BL[:count]), audio_batch, 2 * CLIPS
        )
        row["clips, pipeline"] = self.extracted("clips", self.precision, audio_batch)
        row = {name: round(value, 3) for name, value in row.items()}
        say(str(row))
        return row

    def extracted(self, items: str, precision: str, batch: int) -> float:
        """Return images or clips a second of an extraction in which the other stream is next to nothing."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            store = Path(folder) / "some.zarr"
            little = audio_recipe("fp32").model_copy(update={"kind": "logmel", "steps": 1, "hop": 60.0, "batch": 1})
            recipe = ExtractRecipe(
                image=image_recipe(precision).model_copy(update={"batch": batch if items == "images" else 8}),
                image_rate="all" if items == "images" else 0.001,
                audio=little if items == "images" else audio_recipe(precision).model_copy(update={"batch": batch}),
                prompts=PromptRecipe(phrases=("happy",), templates=("a {} face",)),
            )
            if items == "images":
                local.audio_encoder = audio_encoder
            pipeline.extract(self.dataset, recipe, store)
            local.audio_encoder = lambda recipe, device: self.hearing[recipe.precision]
            lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
            return float(next(line["per_second"][items] for line in lines if line["event"] == "stages"))

    @torch.no_grad()
    def image_loop(self) -> torch.Tensor:
        """Encode crops the straightforward way."""
        input_BCSS = torch.stack([self.transform(Image.open(io.BytesIO(jpg))) for jpg in self.jpgs])
        return self.clip.encode_image(input_BCSS)

    @torch.no_grad()
    def audio_loop(self) -> torch.Tensor:
        """Encode clips the straightforward way."""
        return torch.cat([self.ast(**self.prepared(wave_L)).last_hidden_state for wave_L in self.wave_BL])

    def prepared(self, wave_L: torch.Tensor) -> Any:
        """Return a clip as the AST of transformers expects it."""
        return self.extractor(wave_L.numpy(), sampling_rate=RATE, return_tensors="pt")

    def resizing(self) -> dict[str, float]:
        """Return pictures a second of one core, from jpg in memory to tensors."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        ours = per_second(self.made_ready, len(self.jpgs), least=0.3)
        theirs = per_second(
            lambda: [self.transform(Image.open(io.BytesIO(jpg))) for jpg in self.jpgs], len(self.jpgs), least=0.3
        )
        torch.set_num_threads(threads)
        return {"jpg to tensor": round(ours, 1), "jpg to tensor by PIL": round(theirs, 1)}

    def made_ready(self) -> torch.Tensor:
        """Decode, resize and normalise the crops."""
        image_BHWC = torch.from_numpy(np.stack([decoded(jpg) for jpg in self.jpgs]))
        return preprocess(image_BHWC, size=224, mean=CLIP_MEAN, std=CLIP_STD)

    @torch.no_grad()
    def cosines(self) -> dict[str, float]:
        """Return the least cosine of any frame, or time step, with the plain networks in fp32."""
        plain_BD = self.clip.encode_image(self.made_ready())
        token_BTD = self.audio_loop()
        plain_BSD = patches_over_time(token_BTD[:, 2:], 12)

        def least(ours: torch.Tensor, theirs: torch.Tensor) -> float:
            return round(float(cosine_similarity(ours, theirs, dim=-1).min()), 8)

        found = {}
        for kind in self.seeing:
            embedding_BD = self.seeing[kind].encode(self.image_BHWC)
            found[f"image, {kind}"] = least(embedding_BD, plain_BD)
            found[f"image, {kind}, with the PIL transform"] = least(embedding_BD, self.image_loop())
            found[f"audio, {kind}"] = least(self.hearing[kind].encode(self.wave_BL), plain_BSD)
        return found


def image_recipe(precision: str) -> ImageEncoderRecipe:
    """Return the paper's image encoder with random weights."""
    return ImageEncoderRecipe(weights="random:0", precision=precision)


def audio_recipe(precision: str) -> AudioEncoderRecipe:
    """Return the paper's audio encoder with random weights."""
    return AudioEncoderRecipe(weights="random:0", precision=precision, window=WINDOW, hop=HOP)


def decoded(jpg: bytes) -> np.ndarray:
    """Return a jpg's pixels, as crops are read."""
    with Image.open(io.BytesIO(jpg), formats=("JPEG", "PNG")) as image:
        return np.array(image.convert("RGB"), dtype=np.uint8)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def per_second(work: Callable[[], object], items: int, *, least: float = 0.0) -> float:
    """Return items a second, over as many repetitions as take `least` seconds."""
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < least:
        work()
        done += items
    return done / (time.perf_counter() - start)


def material(folder: Path) -> Dataset:
    """Write videos with crops of 112 x 112 spread over their frames, and return them as a data set."""
    picture_HWC = textured(360, 640)
    videos = []
    for number in range(VIDEOS):
        media, crops = folder / f"video{number}.mp4", folder / f"crops{number}"
        write_video(media, np.roll(picture_HWC, 100 * number, axis=1))
        crops.mkdir()
        for index in range(CROPS):
            face_HWC = np.roll(picture_HWC, 7 * index + 50 * number, axis=1)[100:212, 200:312]
            Image.fromarray(face_HWC).save(crops / f"{1 + index * FRAMES // CROPS:05d}.jpg", quality=95)
        videos.append(Video(f"video{number}", "train", media, crops, None))
    return Dataset("benchmark", "affwild2", folder, "crops", tuple(videos))


def memory(folder: Path) -> dict[str, Any]:
    """Return the largest resident memory of extractions of short and long 1080p videos, in megabytes."""
    minute = folder / "minute.mp4"
    write_minute(minute)
    found = {}
    for minutes in MINUTES:
        long = folder / f"{minutes}.mp4"
        repeat(minute, long, minutes)
        command = [sys.executable, __file__, "--memory-of", str(long)]
        ended = subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        found[f"{minutes} minutes"] = json.loads(ended.stdout)
        long.unlink()
    return found


def memory_of(media: Path) -> dict[str, float]:
    """Return the largest resident memory after loading and trying the encoders, and after an extraction."""
    image, audio = image_encoder(image_recipe("fp32")), audio_encoder(audio_recipe("fp32"))
    image.encode(np.zeros((1, 224, 224, 3), dtype=np.uint8))
    audio.encode(torch.zeros(1, round(WINDOW * RATE)))
    image.encode_text(["a happy face"])
    own = peak()
    local.image_encoder, local.audio_encoder = (lambda *_: image), (lambda *_: audio)
    recipe = ExtractRecipe(
        image=image_recipe("fp32").model_copy(update={"batch": 16}),
        # Every frame is decoded; few are encoded, as the networks' time is not the question here.
        image_rate=0.02,
        audio=audio_recipe("fp32").model_copy(update={"batch": 4, "hop": 60.0}),
        prompts=PromptRecipe(phrases=("happy",), templates=("a {} face",)),
    )
    dataset = Dataset("memory", "affwild2", media.parent, "frames", (Video("long", "train", media, None, None),))
    store = media.with_suffix(".zarr")
    report = pipeline.extract(dataset, recipe, store)
    assert report.done == ["long"], report.failed
    counts = FeatureStore.open(store).marker("image", "long")["counts"]
    return {"model": own, "extraction": peak(), "above the model": round(peak() - own, 1), **counts}


def peak() -> float:
    """Return this process's largest resident memory so far, in megabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def write_minute(target: Path) -> None:
    """Write a minute of 1080p at 10 frames a second, with a tone."""
    picture_HWC = textured(1080, 1920)
    rate = 10
    with av.open(str(target), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = 1080, 1920, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(60 * rate):
            frame = av.VideoFrame.from_ndarray(np.roll(picture_HWC, 8 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            tone = 8000 * np.sin(2 * np.pi * 440 / 44100 * (np.arange(4410) + index * 4410))
            sound = av.AudioFrame.from_ndarray(tone[None].astype(np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44100, index * 4410, Fraction(1, 44100)
            for packet in (*video.encode(frame), *audio.encode(sound)):
                container.mux(packet)
        for stream in (video, audio):
            for packet in stream.encode(None):
                container.mux(packet)


def repeat(minute: Path, target: Path, minutes: int) -> None:
    """Write a video's packets so many times, one after the other, without encoding them again."""
    with av.open(str(target), "w") as out, av.open(str(minute)) as first:
        streams = {stream.type: out.add_stream_from_template(stream) for stream in first.streams}
        for turn in range(minutes):
            with av.open(str(minute)) as container:
                for packet in container.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    # A second's gap: sound is a little longer than the picture, and time stamps must ascend.
                    shift = round(61 * turn / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.type]
                    out.mux(packet)


if __name__ == "__main__":
    main()
