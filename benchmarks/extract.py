"""Measures extraction: the whole pipeline, the encoders alone, and the straightforward loop, on one machine and input.

    python benchmarks/extract.py [--rounds 3] [--no-memory | --sizes-only] [--out benchmarks/extract.json]

Encoders are of full size with random weights. The straightforward loop is open_clip's PIL transform and network in
fp32, 32 crops of one video at once; for sound transformers' feature extractor and AST in fp32, one clip at a time. The
encoder alone is fed from memory. Each round measures all of them, one right after the other, what the pipeline is
compared with both before and after it, and a ratio is the median of the rounds' ratios. What other programs disturb is
measured again, and how much they took stands beside it (`quiet.py`).

Beside these speeds stands the share of all cores' time in which they encode, in the pipeline and from memory. A host
whose speed changes meanwhile does not change it; but it leaves out what reading takes of a core that encodes, about a
hundredth. What matrix products alone would allow on this processor stands beside what is reached. Memory is measured by
`one_hour.py`, also by itself; so are the sizes of batch with `--sizes-only`, into a result that is there.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import open_clip
import torch
from material import videos_with_crops
from media import FRAMES, RATE
from one_hour import memory
from open_clip.transform import image_transform
from PIL import Image
from products import GFLOP, products
from quiet import per_second, quietly
from torch.nn.functional import cosine_similarity
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from vaprompt.encoders.pooling import patches_over_time
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction import local, pipeline
from vaprompt.extraction.batch_size import IN_FLIGHT, fastest, sizes
from vaprompt.extraction.recipe import ExtractRecipe, PromptRecipe
from vaprompt.extraction.stages import log_file
from vaprompt.lanes import Worked, lanes
from vaprompt.media.resize import preprocess

PACKAGES = ("torch", "torchvision", "torchaudio", "open_clip_torch", "transformers", "av", "pillow", "numpy", "zarr")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VIDEOS, LOOP = 2, 32
"""Videos of the pipeline's input, with a crop of each frame as in Aff-Wild2; and pictures of the loop's batch."""
FEWER = RATE / 5
"""Crops a second that the pipeline reads in fp32 where it is not the fastest: it would take minutes for all."""
CLIPS = 4
"""Clips of a measurement of the loop."""
ALONE = {"images": FRAMES, "clips": 24}
"""Of a measurement of an encoder alone, before the pipeline and again behind it: about as many as that encodes."""
SWEPT = {"image": 64, "audio": 12}
"""Of a measurement of one size of batch: as many for all sizes, or the first batches weigh on small ones more."""
WINDOW, HOP, SAMPLES = 10.0, 0.5, 16000


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--no-memory", action="store_true", help="leave it to `one_hour.py --into`")
    options.add_argument(
        "--sizes-only", action="store_true", help="measure sizes of batch anew, for the result in --out"
    )
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.sizes_only and chosen.out is None:
        options.error("--sizes-only puts what it measures into a result: name it with --out")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), chosen.rounds)
        if chosen.sizes_only:
            report = json.loads(chosen.out.read_text(encoding="utf-8"))
            report["batch"], best = bench.sizes()
            report["ratios"]["auto_to_best_batch"] = best
        else:
            report = {
                "machine": machine(),
                "versions": {name: metadata.version(name) for name in PACKAGES},
                **bench.measure(),
            }
            if not chosen.no_memory:
                say("memory")
                report["memory"] = memory(Path(folder))
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and how busy the machine is with other things."""
    flags = Path("/proc/cpuinfo").read_text()
    model = [line for line in flags.splitlines() if line.startswith("model name")]
    return {
        "architecture": platform.machine(),
        "processor": model[0].split(":")[1].strip() if model else "unknown",
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16 matrix units": "amx_bf16" in flags,
        "bf16 vector units": "avx512_bf16" in flags,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load at the start": round(os.getloadavg()[0], 2),
    }


def half_is_fast() -> bool:
    """Say whether the processor multiplies bf16 in hardware, in vectors or in tiles of matrices."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Reached(NamedTuple):
    """What one measurement gave."""

    per_second: float
    encoding: float | None
    """Share of all cores' time in which they encoded; None of what does not encode by lanes."""


def encoding_since(before: Worked, seconds: float) -> float:
    """Return the share of all cores' time in which they encoded, in the so many seconds since."""
    return (lanes().worked.seconds - before.seconds) / seconds / lanes().count


class Bench:
    """The encoders and their input, shared by all measurements."""

    def __init__(self, folder: Path, rounds: int) -> None:
        """Make the material and load what is measured."""
        self.folder, self.rounds = folder, rounds
        self.precision = "bf16" if half_is_fast() else "fp32"
        self.dataset = videos_with_crops(folder, VIDEOS)
        self.jpgs = [path.read_bytes() for path in sorted((folder / "crops0").iterdir())[:LOOP]]
        self.image_BHWC = np.stack([decoded(jpg) for jpg in self.jpgs])
        self.wave_BL = torch.rand(CLIPS, round(WINDOW * SAMPLES), generator=torch.Generator().manual_seed(0)) - 0.5
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
        batch, auto_to_best = self.sizes()
        rows: list[dict[str, float]] = []
        resizing: list[dict[str, float]] = []
        for number in range(self.rounds):
            say(f"round {number + 1} of {self.rounds}")
            rows.append(self.round(batch["image"]["auto"], batch["audio"]["auto"]))
            resizing += [self.resizing(), self.resizing()]

        def middle(name: str, of: list[dict[str, float]]) -> float:
            return statistics.median(row[name] for row in of)

        def ratio(above: str, below: str, of: list[dict[str, float]]) -> float:
            return round(statistics.median(row[above] / row[below] for row in of), 3)

        return {
            "precision": self.precision,
            "batch": batch,
            "rows": {"rounds, per second": rows, "pictures made ready, per second and core": resizing},
            "products": products(
                self.precision,
                {name: middle(f"{name}, encoder alone", rows) for name in GFLOP},
                {name: middle(f"{name}, loop", rows) for name in GFLOP},
            ),
            "cores encoding, pipeline to encoder": {
                name: ratio(f"{name}, pipeline, cores encoding", f"{name}, encoder alone, cores encoding", rows)
                for name in GFLOP
            },
            "cosine": self.cosines(),
            "ratios": {
                "image_pipeline_to_encoder": ratio("images, pipeline", "images, encoder alone", rows),
                "audio_pipeline_to_encoder": ratio("clips, pipeline", "clips, encoder alone", rows),
                "image_to_loop": ratio("images, pipeline", "images, loop", rows),
                "audio_to_loop": ratio("clips, pipeline", "clips, loop", rows),
                "image_fp32_to_loop": ratio("images, pipeline in fp32", "images, loop", rows),
                "resize_to_pil": ratio("jpg to tensor", "jpg to tensor by PIL", resizing),
                "auto_to_best_batch": auto_to_best,
            },
        }

    def sizes(self) -> tuple[dict[str, dict[str, Any]], float]:
        """Return the speeds of all sizes of batch, by stream, and how near to the best `auto` comes at least."""
        say("batch sizes")
        batch = {stream: self.sweep(stream) for stream in ("image", "audio")}
        return batch, min(found["auto to best"] for found in batch.values())

    def sweep(self, stream: str) -> dict[str, Any]:
        """Return the speed of every size of batch, measured here, and what `auto` chooses by its own measurement."""
        candidates = sizes("cpu", stream)

        def encode(count: int) -> object:
            if stream == "image":
                return self.seeing[self.precision].encode(self.image_BHWC[:count])
            return self.hearing[self.precision].encode(self.wave_BL[:count])

        chosen, measured = fastest(encode, candidates)
        say(f"{stream}: auto takes {chosen} of {measured}")
        found: dict[int, list[tuple[float, float]]] = {size: [] for size in candidates}
        others = []
        for _ in range(self.rounds):
            for size in candidates:
                both, share = quietly(partial(self.fed, encode, size, SWEPT[stream]))
                found[size].append(both)
                others.append(share)
        speeds = {size: statistics.median(speed for speed, _ in both) for size, both in found.items()}
        fed = {size: statistics.median(items for _, items in both) for size, both in found.items()}
        return {
            "auto": chosen,
            "auto to best": round(fed[chosen] / max(fed.values()), 3),
            "in a piece's time": {str(size): round(items, 3) for size, items in fed.items()},
            "per second": {str(size): round(speed, 3) for size, speed in speeds.items()},
            "others took at most": round(max(others), 3),
        }

    def fed(self, encode: Callable[[int], object], size: int, items: int) -> tuple[float, float]:
        """Return how many items an encoder makes a second, and how many in the time of one piece, for each core."""
        cores = lanes()
        before = cores.worked
        speed = self.alone(encode, size, items).per_second
        pieces, seconds = cores.worked.items - before.items, cores.worked.seconds - before.seconds
        return speed, speed * seconds / pieces / cores.count

    def alone(self, encode: Callable[[int], object], size: int, items: int) -> Reached:
        """Return how many items an encoder makes of batches from memory, as many in flight as in the pipeline."""
        batches, before = max(IN_FLIGHT, items // size), lanes().worked
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            start = time.perf_counter()
            for done in [pool.submit(encode, size) for _ in range(batches)]:
                done.result()
            took = time.perf_counter() - start
        return Reached(batches * size / took, encoding_since(before, took))

    def round(self, image_batch: int, audio_batch: int) -> dict[str, float]:
        """Return one measurement of everything, one right after the other."""
        seeing, hearing = self.seeing[self.precision], self.hearing[self.precision]

        def see(count: int) -> object:
            return seeing.encode(self.image_BHWC[:count])

        def hear(count: int) -> object:
            return hearing.encode(self.wave_BL[:count])

        def loop(work: Callable[[], object], items: int) -> Reached:
            return Reached(per_second(work, items), None)

        image_loop = ("images, loop", partial(loop, self.image_loop, LOOP))
        image_alone = ("images, encoder alone", partial(self.alone, see, image_batch, ALONE["images"]))
        clip_loop = ("clips, loop", partial(loop, self.audio_loop, CLIPS))
        clip_alone = ("clips, encoder alone", partial(self.alone, hear, audio_batch, ALONE["clips"]))
        works: list[tuple[str, Callable[[], Reached]]] = [
            image_loop,
            image_alone,
            ("images, pipeline", partial(self.extracted, "images", self.precision, image_batch)),
            image_alone,
            image_loop,
            ("images, pipeline in fp32", partial(self.extracted, "images", "fp32", image_batch)),
            image_loop,
            clip_loop,
            clip_alone,
            ("clips, pipeline", partial(self.extracted, "clips", self.precision, audio_batch)),
            clip_alone,
            clip_loop,
        ]
        speeds: dict[str, list[float]] = {}
        encoding: dict[str, list[float]] = {}
        others = []
        for name, work in works:
            reached, share = quietly(work)
            speeds.setdefault(name, []).append(reached.per_second)
            if reached.encoding is not None:
                encoding.setdefault(f"{name}, cores encoding", []).append(reached.encoding)
            others.append(share)
        # All that was done by the time that it took: as much is done each time.
        row = {name: round(statistics.harmonic_mean(found), 3) for name, found in speeds.items()}
        row |= {name: round(statistics.mean(found), 3) for name, found in encoding.items()}
        row["others took at most"] = round(max(others), 3)
        say(str(row))
        return row

    def extracted(self, items: str, precision: str, batch: int) -> Reached:
        """Return images or clips a second of an extraction in which the other stream is next to nothing."""
        before = lanes().worked
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            store = Path(folder) / "some.zarr"
            every: Literal["all"] | float = "all" if precision == self.precision else FEWER
            little = audio_recipe("fp32").model_copy(update={"kind": "logmel", "steps": 1, "hop": 60.0, "batch": 1})
            recipe = ExtractRecipe(
                image=image_recipe(precision).model_copy(update={"batch": batch if items == "images" else 8}),
                image_rate=every if items == "images" else 0.001,
                audio=little if items == "images" else audio_recipe(precision).model_copy(update={"batch": batch}),
                prompts=PromptRecipe(phrases=("happy",), templates=("a {} face",)),
            )
            if items == "images":
                local.audio_encoder = audio_encoder
            pipeline.extract(self.dataset, recipe, store)
            local.audio_encoder = lambda recipe, device: self.hearing[recipe.precision]
            lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
            stages = next(line for line in lines if line["event"] == "stages")
            return Reached(stages["per_second"][items], encoding_since(before, stages["elapsed"]))

    @torch.no_grad()
    def image_loop(self) -> torch.Tensor:
        """Encode crops the straightforward way."""
        return self.clip.encode_image(torch.stack(self.by_pil()))

    @torch.no_grad()
    def audio_loop(self) -> torch.Tensor:
        """Encode clips the straightforward way."""
        return torch.cat([self.ast(**self.prepared(wave_L)).last_hidden_state for wave_L in self.wave_BL])

    def prepared(self, wave_L: torch.Tensor) -> Any:
        """Return a clip as the AST of transformers expects it."""
        return self.extractor(wave_L.numpy(), sampling_rate=SAMPLES, return_tensors="pt")

    def resizing(self) -> dict[str, float]:
        """Return pictures a second of one core, from jpg in memory to tensors."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        ours, share = quietly(partial(per_second, self.made_ready, len(self.jpgs), least=0.5))
        theirs, other_share = quietly(partial(per_second, self.by_pil, len(self.jpgs), least=0.5))
        torch.set_num_threads(threads)
        return {
            "jpg to tensor": round(ours, 1),
            "jpg to tensor by PIL": round(theirs, 1),
            "others took at most": round(max(share, other_share), 3),
        }

    def by_pil(self) -> list[torch.Tensor]:
        """Decode, resize and normalise the crops as open_clip does."""
        return [self.transform(Image.open(io.BytesIO(jpg))) for jpg in self.jpgs]

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
        return np.array(image, dtype=np.uint8)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
