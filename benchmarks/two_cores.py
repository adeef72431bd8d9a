"""Measures two cores of a processor: the plain networks in fp32, and ours in both formats, arranged in some ways.

    python benchmarks/two_cores.py [--only images|clips] [--tiny]

Networks are of full size with random weights, fed from memory. It tells on one line of JSON which way to attend and how
many pictures a core should see at once on a kind of processor, before `benchmarks/extract.py` measures the whole.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

CORES = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, CORES)  # before torch counts them
os.environ["OMP_NUM_THREADS"] = str(len(CORES))
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402
import open_clip  # noqa: E402
import torch  # noqa: E402
from transformers import ASTConfig, ASTModel  # noqa: E402

from vaprompt.encoders import attention, tower  # noqa: E402
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe  # noqa: E402
from vaprompt.encoders.registry import audio_encoder, image_encoder  # noqa: E402

WAYS = {
    "fp32": {"fused": attention.fused},
    "bf16": {"fused": attention.fused, "by products": attention.by_products},
}
ROUNDS = 5
"""Of which the best counts: the processors of machines that are lent are shared."""
PIECES = (1, 2, 4, 8)
SIDE = 2048
"""Rows and columns of the product that tells what a processor can do."""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=KINDS)
    options.add_argument("--tiny", action="store_true", help="miniature networks, to try this script")
    chosen = options.parse_args()
    kinds = KINDS if chosen.only is None else (chosen.only,)
    with torch.inference_mode():
        figures = dict(processor())
        for kind in kinds:
            if not chosen.tiny:
                figures |= dict([PLAIN[kind]()])
            figures |= dict(OURS[kind]({"model": "embedded"} if chosen.tiny else {}))
    print(json.dumps(figures))


def processor() -> Iterator[tuple[str, Any]]:
    """Yield what it is, and the GFLOP/s of large products."""
    yield "cores", len(CORES)
    yield "amx", bool(torch.cpu._is_amx_tile_supported())
    for name in WAYS:
        left, right = torch.ones(2, SIDE, SIDE, dtype=tower.DTYPES[name])
        yield f"products, {name}", round(per_second(partial(torch.mm, left, right), 1) * 2 * SIDE**3 / 1e9, 1)


def plain_images() -> tuple[str, float]:
    """Return pictures a second of the network as it comes, 32 at once."""
    clip = open_clip.create_model("ViT-B-16-quickgelu").eval()
    return "images, loop", per_second(partial(clip.encode_image, torch.randn(32, 3, 224, 224)), 32)


def plain_clips() -> tuple[str, float]:
    """Return clips a second of the network as it comes, one at once."""
    ast = ASTModel(ASTConfig()).eval()
    return "clips, loop", per_second(partial(ast, torch.randn(1, 1024, 128)), 1)


def images(model: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield pictures a second of our encoder."""
    image_BHWC = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    for precision, ways in WAYS.items():
        for name, way in ways.items():
            tower.attention = partial(_this, way)
            seeing = image_encoder(ImageEncoderRecipe(weights="random:0", precision=precision, **model))
            for piece in PIECES:
                seeing._run._piece = piece  # type: ignore[attr-defined]
                yield (
                    f"images, {precision}, {name}, pieces of {piece}",
                    per_second(partial(seeing.encode, image_BHWC), 16),
                )


def clips(model: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield clips a second of our encoder."""
    wave_BL = torch.rand(2, 160_000) - 0.5
    for precision, ways in WAYS.items():
        for name, way in ways.items():
            tower.attention = partial(_this, way)
            hearing = audio_encoder(AudioEncoderRecipe(weights="random:0", precision=precision, **model))
            yield f"clips, {precision}, {name}", per_second(partial(hearing.encode, wave_BL), 2)


def _this(way: attention.Attention, dtype: torch.dtype, device: torch.device) -> attention.Attention:
    return way


def per_second(work: Callable[[], object], items: int) -> float:
    """Return items a second of the best of some measurements."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(items / min(seconds), 3)


PLAIN = {"images": plain_images, "clips": plain_clips}
OURS = {"images": images, "clips": clips}
KINDS = tuple(OURS)


if __name__ == "__main__":
    main()
