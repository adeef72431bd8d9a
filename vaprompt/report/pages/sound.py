"""A file's sound as pages carry it; `assets/sound.js` draws it."""

from __future__ import annotations

from typing import Any

import numpy as np

from vaprompt.media.loudness import SILENCE, STEP, Loudness
from vaprompt.report.pages import packing


def packed_sound(loudness: Loudness) -> dict[str, Any]:
    """Return the level over time and where a voice is heard, as JSON-ready values."""
    level_G = (loudness.level_G.astype(np.float64) - SILENCE) / -SILENCE
    return {
        "level": packing.shares(level_G),
        "step": STEP,
        "lowest": SILENCE,
        "voice": packing.spans(loudness.voice_G),
        "silent": loudness.silent,
    }
