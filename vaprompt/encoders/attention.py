"""Attention of frozen transformers: torch's fused kernel, or two plain products where those are faster.

On a processor that multiplies bf16 vectors but has no tiles for matrices (AVX512-BF16 without AMX), torch's fused
kernel falls far behind oneDNN's products: there the scores are written out, in pieces that stay in its caches.

Axes: B items, H heads, T tokens, C channels of a head, D = H x C.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vaprompt.encoders.processor import in_vectors

FEW = 512
"""Tokens up to which the scores of all heads are made at once; those of more do not fit the second-level cache."""

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From queries, keys and values, each (B, H, T, C), to mixed values (B, T, D)."""


def attention(dtype: torch.dtype, device: torch.device) -> Attention:
    """Return the fastest way to attend in a number format on a device; every machine has one and keeps to it."""
    return by_products if in_vectors(dtype, device) else fused


def fused(
    query_BHTC: Float[Tensor, "B H t C"], key_BHTC: Float[Tensor, "B H T C"], value_BHTC: Float[Tensor, "B H T C"]
) -> Float[Tensor, "B t D"]:
    """Return values mixed by scaled dot-product attention, by torch's own kernel."""
    mixed_BHTC = F.scaled_dot_product_attention(query_BHTC, key_BHTC, value_BHTC)
    return mixed_BHTC.transpose(1, 2).flatten(2)


def by_products(
    query_BHTC: Float[Tensor, "B H t C"], key_BHTC: Float[Tensor, "B H T C"], value_BHTC: Float[Tensor, "B H T C"]
) -> Float[Tensor, "B t D"]:
    """Return the same as `fused`, with scores and weights rounded to the number format in between."""
    query_BHTC = (query_BHTC * query_BHTC.shape[-1] ** -0.5).contiguous()
    key_BHTC, value_BHTC = key_BHTC.contiguous(), value_BHTC.contiguous()
    if key_BHTC.shape[2] <= FEW:
        weight_BHTT = (query_BHTC @ key_BHTC.transpose(2, 3)).softmax(-1)
        return (weight_BHTT @ value_BHTC).transpose(1, 2).flatten(2)
    mixed_BHTC = torch.empty_like(query_BHTC)
    weight_TT = query_BHTC.new_empty(query_BHTC.shape[2], key_BHTC.shape[2])
    for item in range(query_BHTC.shape[0]):
        for head in range(query_BHTC.shape[1]):
            torch.mm(query_BHTC[item, head], key_BHTC[item, head].t(), out=weight_TT)
            torch.softmax(weight_TT, -1, out=weight_TT)
            torch.mm(weight_TT, value_BHTC[item, head], out=mixed_BHTC[item, head])
    return mixed_BHTC.transpose(1, 2).flatten(2)
