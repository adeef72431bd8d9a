"""What the processor at hand multiplies in hardware: by it frozen networks are arranged for speed."""

from __future__ import annotations

import torch

LINE = 32
"""Channels in bf16 that fill a line of a processor's caches."""


def packs(dtype: torch.dtype, device: torch.device) -> bool:
    """Say whether oneDNN multiplies matrices of a number format here."""
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if dtype == torch.float32:
        return True
    known = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return bool(known[dtype]())


def in_vectors(dtype: torch.dtype, device: torch.device) -> bool:
    """Say whether vectors of bf16 are multiplied, by AVX512-BF16, and no tiles of matrices."""
    known = device.type == "cpu" and dtype == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported()
    return bool(known and not torch.cpu._is_amx_tile_supported())


def in_tiles(dtype: torch.dtype, device: torch.device) -> bool:
    """Say whether tiles of matrices of bf16 are multiplied, by AMX."""
    return bool(device.type == "cpu" and dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported())


def spacing(channels: int, dtype: torch.dtype, device: torch.device) -> int:
    """Return how many channels of zeros to add to a product's, for speed where the processor has tiles.

    A tile takes 16 rows at once. Rows that lie an even number of lines apart share few of the places that a cache has
    for them; an odd number spreads them over all.
    """
    lines, rest = divmod(channels, LINE)
    return LINE if in_tiles(dtype, device) and not rest and lines % 2 == 0 else 0
