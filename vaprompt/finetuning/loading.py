"""One window of raw media, as encoders take it: pictures of their size, and the sound's picture.

Axes: T pictures of the window, S their side, C colours, L samples, F columns of the sound's picture, M mel bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from vaprompt.errors import MediaError
from vaprompt.finetuning.augmentation import draw
from vaprompt.finetuning.requests import Fit, Load, Setup
from vaprompt.finetuning.scratch import cut_sound, fit_pictures, kept
from vaprompt.media.crops import list_crops, read_images
from vaprompt.media.spectrogram import drawn


@dataclass(frozen=True)
class RawWindow:
    """One window; what is not looked at or listened to is None."""

    image_TSSC: UInt8[np.ndarray, "T S S 3"] | None
    mel_FM: Float32[np.ndarray, "F M"] | None


def load(request: Load, setup: Setup) -> RawWindow:
    """Return a window, changed at random if the request has a seed.

    Raises:
        MediaError: a crop or a file of the scratch folder is missing or cannot be read.
    """
    augmentation = None if request.seed is None else draw(setup.augmentation, *request.seed)
    image_TSSC = mel_FM = None
    if setup.fit is not None:
        image_TSSC = _pictures(request, setup, setup.fit)
        if augmentation is not None:
            image_TSSC = augmentation.pictures(image_TSSC)
    if request.sound is not None and setup.sound is not None:
        kept_L = kept(setup.scratch / request.sound)
        wave_L = cut_sound(kept_L, request.end, window=setup.sound.window, rate=setup.sound.mel.rate)
        if augmentation is not None:
            wave_L = augmentation.sound(wave_L)
        mel_FM = drawn(torch.from_numpy(wave_L)[None], setup.sound.mel)[0].numpy()
        if augmentation is not None:
            mel_FM = augmentation.spectrogram(mel_FM)
    return RawWindow(image_TSSC, mel_FM)


def _pictures(request: Load, setup: Setup, fit: Fit) -> UInt8[np.ndarray, "T S S 3"]:
    if request.pictures is not None:
        kept_MSSC = kept(setup.scratch / request.pictures)
        return fit_pictures([kept_MSSC[row] for row in request.frames], fit)
    assert request.crops is not None
    # A window that holds fewer pictures than it wants has some of them several times.
    frames, position_T = np.unique(request.frames, return_inverse=True)
    crops = request.crops
    paths = [crop_path(crops, frame) for frame in frames.tolist()]
    image_TSSC: np.ndarray = fit_pictures(list(read_images(paths)), fit)[position_T]
    return image_TSSC


def crop_path(folder: Path, frame: int) -> Path:
    """Return the crop of a frame (1-based) in a folder of numbered crops.

    Raises:
        MediaError: there is none.
    """
    usual = folder / f"{frame:05d}.jpg"
    if usual.is_file():
        return usual
    # However else it is named: folders with the usual names are never listed, as they hold up to 47,000 files.
    found = _listed(folder).get(frame)
    if found is None:
        raise MediaError(
            folder, fault=f"holds no crop of frame {frame}, which the store has", remedy="unpack the crops again"
        )
    return found


@lru_cache(maxsize=4)
def _listed(folder: Path) -> dict[int, Path]:
    frame_N, paths = list_crops(folder)
    return dict(zip(frame_N.tolist(), paths, strict=True))
