"""What matrix products alone would allow an encoder of full size, at the speed at which a processor makes them."""

from __future__ import annotations

from typing import Any

import torch
from quiet import per_second, quietly

from vaprompt.encoders.tower import DTYPES, Linear
from vaprompt.lanes import lanes

TOKENS = {"images": 197, "clips": 1214}
"""Of a picture, and of a clip."""


def _gflop(tokens: int, *, first_only: bool) -> float:
    """Return the GFLOP of products in twelve layers of 768 channels, of which the last may give one token alone."""
    width = 768
    attention, others = 2 * tokens * width, 12 * width**2 - 2 * width**2
    layers = 11 if first_only else 12
    products = layers * tokens * (2 * width**2 + others + attention)
    if first_only:
        products += tokens * 2 * width**2 + others + attention
    patches = (tokens - 1) * 768 * width if first_only else (tokens - 2) * 256 * width
    return round(2 * (products + patches) / 1e9, 2)


GFLOP = {"images": _gflop(TOKENS["images"], first_only=True), "clips": _gflop(TOKENS["clips"], first_only=False)}
"""What an image and a clip take by our arrangement of the networks, but for the little beside the layers."""


def products(precision: str, reached: dict[str, float], loop: dict[str, float]) -> dict[str, Any]:
    """Return what matrix products alone would allow, at the speed at which they are done for these networks.

    Args:
        precision: of the encoders.
        reached: items a second of the encoders alone, by kind.
        loop: and of the straightforward loop.
    """
    found: dict[str, Any] = {f"GFLOP/s, {kind}": speed_of_products(kind) for kind in ("fp32", precision)}
    for name, work in GFLOP.items():
        allowed = found[f"GFLOP/s, {precision}"] / work
        found[name] = {
            "GFLOP an item": work,
            "allowed per second": round(allowed, 3),
            "allowed to loop": round(allowed / loop[name], 3),
            "reached of it": round(reached[name] / allowed, 3),
        }
    return found


@torch.inference_mode()
def speed_of_products(precision: str) -> float:
    """Return the GFLOP/s of all cores, each with packed products of the sizes of a vision transformer's layer."""
    tokens, width, hidden = TOKENS["images"], 768, 3072
    kind = DTYPES[precision]
    up = Linear(torch.randn(hidden, width, dtype=kind), None)
    input_TD = torch.randn(1, 4 * tokens, width, dtype=kind)

    def work(_: int) -> None:
        for _ in range(20):
            up(input_TD)

    count = lanes().count
    speed, _ = quietly(lambda: per_second(lambda: lanes().map(work, range(count)), 20 * count, least=1.0))
    return round(speed * 2 * 4 * tokens * width * hidden / 1e9, 1)
