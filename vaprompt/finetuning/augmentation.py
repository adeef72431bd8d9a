"""Random changes to a raw window, the same for all its pictures, from a seed of its own: who loads it does not matter.

Axes: T pictures, S their side, C colours, L samples, F columns of the sound's picture, M mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn import functional as F

from vaprompt.finetuning.recipe import AugmentationRecipe


@dataclass(frozen=True)
class Augmentation:
    """One draw: what is done to one window in one epoch."""

    flip: bool
    side: float
    """Share of the pictures' side that is left."""
    top: float
    left: float
    """Where the rest is taken from, as a share of what is cut away."""
    brightness: float
    """Factor on every colour."""
    gain: float
    """Factor on the sound."""
    mask_frames: tuple[float, float]
    mask_bands: tuple[float, float]
    """Width of the blanked stretch in columns and bands, and where it lies, as a share of where it can lie."""

    def pictures(self, image_TSSC: UInt8[np.ndarray, "T S S 3"]) -> UInt8[np.ndarray, "T S S 3"]:
        """Return the pictures changed, all in the same way."""
        size = image_TSSC.shape[1]
        kept = max(1, round(self.side * size))
        if kept < size:
            top, left = round(self.top * (size - kept)), round(self.left * (size - kept))
            cut_TCKK = torch.from_numpy(np.ascontiguousarray(image_TSSC)).permute(0, 3, 1, 2)
            cut_TCKK = cut_TCKK[:, :, top : top + kept, left : left + kept].contiguous()
            resized = F.interpolate(cut_TCKK, (size, size), mode="bilinear", antialias=True)
            image_TSSC = resized.permute(0, 2, 3, 1).numpy()
        if self.flip:
            image_TSSC = image_TSSC[:, :, ::-1]
        if self.brightness != 1:
            # A table of 256 values, as each byte becomes another one.
            table = np.clip(np.rint(np.arange(256) * self.brightness), 0, 255).astype(np.uint8)
            image_TSSC = table[image_TSSC]
        return np.ascontiguousarray(image_TSSC)

    def sound(self, wave_L: Float32[np.ndarray, "L"]) -> Float32[np.ndarray, "L"]:
        """Return the sound louder or softer."""
        return wave_L if self.gain == 1 else (wave_L * np.float32(self.gain)).astype(np.float32)

    def spectrogram(self, mel_FM: Float32[np.ndarray, "F M"]) -> Float32[np.ndarray, "F M"]:
        """Return the sound's picture with a stretch of time and one of bands at 0, about the mean of all sounds."""
        masked_FM = mel_FM.copy()
        for axis, (width, place) in enumerate((self.mask_frames, self.mask_bands)):
            length = mel_FM.shape[axis]
            wide = min(round(width), length)
            first = round(place * (length - wide))
            (masked_FM if axis == 0 else masked_FM.T)[first : first + wide] = 0
        return masked_FM


def draw(recipe: AugmentationRecipe, *seed: int) -> Augmentation | None:
    """Return what is done to a window, from whole numbers that say which window, epoch and run it is; None: nothing."""
    if not recipe.on:
        return None
    chance = np.random.default_rng(seed)
    # Every number is drawn, wanted or not, so that changing one field leaves the others' draws as they were.
    flip, side, top, left, bright, gain, wide_f, at_f, wide_m, at_m = chance.random(10).tolist()
    return Augmentation(
        flip=flip < recipe.flip,
        side=1 - recipe.crop * side,
        top=top,
        left=left,
        brightness=1 + recipe.brightness * (2 * bright - 1),
        gain=10 ** (recipe.gain * (2 * gain - 1) / 20),
        mask_frames=(wide_f * recipe.time_mask, at_f),
        mask_bands=(wide_m * recipe.band_mask, at_m),
    )
