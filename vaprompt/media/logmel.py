"""Log-Mel pictures of sound, as the audio spectrogram transformer (AST) expects them.

Kaldi's filter-bank recipe (25 ms Hann window, 10 ms hop, HTK mel scale), batched: one FFT for all windows of a
batch, on whatever device the sound is on. Parity with transformers' `ASTFeatureExtractor` is tested.

Axes: B sounds in the batch, L samples, F frames of 10 ms, N samples in a frame, K frequencies, M mel bins.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from vaprompt.media.recipes import LogMelRecipe as LogMelRecipe

FRAME_SECONDS = 0.025
HOP_SECONDS = 0.010
PRE_EMPHASIS = 0.97
LOWEST_HZ = 20.0


def log_mel(wave_BL: Float32[Tensor, "B L"], recipe: LogMelRecipe) -> Float32[Tensor, "B F M"]:
    """Return the normalised log-Mel picture (B, recipe.frames, recipe.bins) of each sound.

    Args:
        wave_BL: mono sound in [-1, 1] at `recipe.rate`; at least one sample, zeros are silence.
        recipe: the filter bank and the normalisation.

    Source: Kaldi's `fbank` with Hann window and without dither, then AST's normalisation (method.md, section 1);
    frames that the sound does not reach are zero before the normalisation, as in `ASTFeatureExtractor`.
    """
    size, hop = round(FRAME_SECONDS * recipe.rate), round(HOP_SECONDS * recipe.rate)
    padded = 2 ** math.ceil(math.log2(size))
    frames = min(recipe.frames, 1 + (wave_BL.shape[1] - size) // hop) if wave_BL.shape[1] >= size else 0
    mel_BFM = wave_BL.new_zeros(len(wave_BL), recipe.frames, recipe.bins)
    if frames > 0:
        frame_BFN = wave_BL[:, : (frames - 1) * hop + size].unfold(1, size, hop)
        frame_BFN = frame_BFN - frame_BFN.mean(dim=2, keepdim=True)
        # The first sample of a frame is its own predecessor, as in Kaldi.
        before_BFN = torch.cat((frame_BFN[..., :1], frame_BFN[..., :-1]), dim=2)
        frame_BFN = (frame_BFN - PRE_EMPHASIS * before_BFN) * _window(size, wave_BL.device)
        power_BFK = torch.fft.rfft(frame_BFN, n=padded).abs().square()
        bank_KM = _mel_bank(recipe.rate, padded, recipe.bins, wave_BL.device)
        mel_BFM[:, :frames] = (power_BFK @ bank_KM).clamp_min(torch.finfo(torch.float32).eps).log()
    return (mel_BFM - recipe.mean) / (2 * recipe.std)


@lru_cache(maxsize=8)
def _window(size: int, device: torch.device) -> Float[Tensor, "N"]:
    # Made here and sent, which is waited for: other threads use it on other streams than the one that asked first.
    return torch.hann_window(size, periodic=False).to(device)


@lru_cache(maxsize=8)
def _mel_bank(rate: int, padded: int, bins: int, device: torch.device) -> Float[Tensor, "K M"]:
    """Triangles that are equally wide on HTK's mel scale, 1127 ln(1 + f / 700)."""
    hertz_K = torch.arange(padded // 2 + 1, dtype=torch.float64) * rate / padded
    mel_K = 1127 * torch.log1p(hertz_K / 700)
    lowest, highest = (1127 * math.log1p(hertz / 700) for hertz in (LOWEST_HZ, rate / 2))
    step = (highest - lowest) / (bins + 1)
    left_M = lowest + step * torch.arange(bins, dtype=torch.float64)
    rising_KM = (mel_K[:, None] - left_M) / step
    triangle_KM = torch.minimum(rising_KM, 2 - rising_KM).clamp_min(0)
    triangle_KM[-1] = 0  # Kaldi leaves the highest frequency out of every band.
    return triangle_KM.to(device, torch.float32)
