"""All ways by which media reach the program."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from vaprompt.media.appearance import appearance
from vaprompt.media.audio import audio_windows, channel_pieces, has_audio, sound_extent
from vaprompt.media.crops import read_image
from vaprompt.media.video import frame_times, probe, read_frames

warnings.simplefilter("error")  # a warning is text on the screen that nobody asked for


def _windows(path: Path) -> None:
    for window_L in audio_windows(path, np.arange(-1.0, 3.0), window=2.0):
        assert window_L.shape == (32000,)


def _frames(path: Path) -> None:
    for number, frame in enumerate(read_frames(path, max_side=320), start=1):
        assert frame.frame == number
        assert frame.rgb_HWC is not None
        assert frame.rgb_HWC.ndim == 3


def _times(path: Path) -> None:
    time_N = frame_times(path)
    assert len(time_N)
    assert time_N[0] == 0
    assert np.all(np.isfinite(time_N))
    assert np.all(np.diff(time_N) >= 0)


def _looks(path: Path) -> None:
    looks = appearance(path)
    assert looks.width > 0
    assert looks.height > 0
    assert 0 < looks.shape < np.inf
    assert np.isfinite(looks.start)


def _stereo(path: Path) -> None:
    for _, wave_CL in channel_pieces(path, rate=16000, layout="stereo"):
        assert len(wave_CL) == 2


def _picture(path: Path) -> None:
    image_HWC = read_image(path)
    assert image_HWC.dtype == np.uint8
    assert image_HWC.shape[2] == 3


MEDIA = {
    "probe": probe,
    "frame_times": _times,
    "read_frames": _frames,
    "has_audio": has_audio,
    "sound_extent": sound_extent,
    "audio_windows": _windows,
    "appearance": _looks,
    "channel_pieces": _stereo,
}
PICTURES = {"read_image": _picture, "probe": probe}
