"""From an encoder's output to a short sequence over time.

Axes: B windows, P patches, S time steps, D channels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def patches_over_time(patch_BPD: Float[Tensor, "B P D"], bands: int) -> Float[Tensor, "B S D"]:
    """Return the patches of a spectrogram as a sequence over time, each step the mean over its frequency bands.

    Args:
        patch_BPD: the patches alone, without CLS and distillation tokens, frequency-major as AST emits them.
        bands: patches above each other; must divide P.
    """
    # Patches come frequency-major (AST: 12 bands x 101 steps): without this a "sequence" would sweep time 12 times.
    patch_BKSD: Tensor = patch_BPD.reshape(len(patch_BPD), bands, -1, patch_BPD.shape[2])
    return patch_BKSD.mean(dim=1)


def pooled(sequence_BSD: Float[Tensor, "B S D"], steps: int | None) -> Float[Tensor, "B s D"]:
    """Return the sequence with this many steps, each the mean over an equal share of time (None: as it is)."""
    if steps is None or steps == sequence_BSD.shape[1]:
        return sequence_BSD
    return F.adaptive_avg_pool1d(sequence_BSD.transpose(1, 2), steps).transpose(1, 2)
