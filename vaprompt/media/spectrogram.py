"""Sound drawn as a picture, in whichever of the known ways a recipe names.

Axes: B sounds in the batch, L samples, F columns, M mel bins.
"""

from __future__ import annotations

from jaxtyping import Float32
from torch import Tensor

from vaprompt.media.decibel import decibel_mel
from vaprompt.media.logmel import log_mel
from vaprompt.media.recipes import DecibelRecipe, LogMelRecipe


def drawn(wave_BL: Float32[Tensor, "B L"], recipe: LogMelRecipe | DecibelRecipe) -> Float32[Tensor, "B F M"]:
    """Return the picture of each mono sound in [-1, 1]."""
    return decibel_mel(wave_BL, recipe) if isinstance(recipe, DecibelRecipe) else log_mel(wave_BL, recipe)
