"""The log-Mel picture of the authors' released code, kept for reproduction alone (docs/method.md, "As released").

What is wrong with it: AST's weights were trained on another picture (`logmel.py`). Here a column stands for 32 ms in
place of 10, so that ten seconds fill 313 of the network's 1024 columns and every rhythm is three times too slow for it,
and each window is brought to one spread, so that how loud it is gets lost.

Axes: B sounds in the batch, L samples, F columns, K frequencies, M mel bins.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from vaprompt.media.recipes import DecibelRecipe

QUIETEST = 1e-10
"""Power below which nothing is told apart: -100 dB (torchaudio's `AmplitudeToDB`)."""
FLAT = 1e-6
"""Added to the deviation, so that silence becomes zeros and not 0/0."""


def decibel_mel(wave_BL: Float32[Tensor, "B L"], recipe: DecibelRecipe) -> Float32[Tensor, "B F M"]:
    """Return the picture (B, recipe.frames, recipe.bins) of each sound.

    Args:
        wave_BL: mono sound in [-1, 1] at `recipe.rate`; at least one sample, zeros are silence.
        recipe: the filter bank and the normalisation.

    Source: method.md, section 1: n_fft 1024, hop 512, dB, z-score of the clip times 0.5 (released). What it leaves open
    is torchaudio's default: columns centred on their time and mirrored at the ends, a periodic Hann window, HTK's mel
    scale, triangles of height 1. Ours: columns behind the sound are zero.
    """
    mirrored = wave_BL.shape[1] > recipe.fft // 2
    spectrum_BKF = torch.stft(
        wave_BL,
        recipe.fft,
        recipe.hop,
        window=torch.hann_window(recipe.fft, device=wave_BL.device),
        center=True,
        pad_mode="reflect" if mirrored else "constant",
        return_complex=True,
    )
    power_BFK = spectrum_BKF.abs().square().transpose(1, 2)
    mel_BFM = power_BFK @ _mel_bank(recipe.rate, recipe.fft, recipe.bins, wave_BL.device)
    decibel_BFM = 10 * mel_BFM.clamp_min(QUIETEST).log10()
    deviation_B11, mean_B11 = torch.std_mean(decibel_BFM, dim=(1, 2), keepdim=True)
    clip_BFM = recipe.spread * (decibel_BFM - mean_B11) / (deviation_B11 + FLAT)
    return F.pad(clip_BFM, (0, 0, 0, max(0, recipe.frames - clip_BFM.shape[1])))[:, : recipe.frames]


@lru_cache(maxsize=8)
def _mel_bank(rate: int, fft: int, bins: int, device: torch.device) -> Float[Tensor, "K M"]:
    """Triangles of height 1 over frequency, whose corners are evenly spaced on HTK's mel scale."""
    hertz_K = torch.linspace(0, rate / 2, fft // 2 + 1, dtype=torch.float64)
    highest = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    corner = 700 * (10 ** (torch.linspace(0, float(highest), bins + 2, dtype=torch.float64) / 2595) - 1)
    left_M, centre_M, right_M = corner[:-2], corner[1:-1], corner[2:]
    rising_KM = (hertz_K[:, None] - left_M) / (centre_M - left_M)
    falling_KM = (right_M - hertz_K[:, None]) / (right_M - centre_M)
    return torch.minimum(rising_KM, falling_KM).clamp_min(0).to(device, torch.float32)
