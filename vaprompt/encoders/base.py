"""What every encoder looks like to extraction and prediction, whatever network is inside.

Axes: B items in the batch, H rows, W columns, C colours, P prompts, D channels, L samples, S time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen network that sees pictures and reads prompts, in one joint space."""

    dim: int
    """Channels of an embedding."""
    fingerprint: dict[str, Any]
    """Everything that determines an embedding, as plain JSON."""

    def encode(self, image_BHWC: UInt8[np.ndarray, "B H W 3"]) -> Float32[Tensor, "B D"]:
        """Return the embeddings of RGB pictures of one size, after the projection and not normalised.

        They are on the device of the network, which may still be at work on them.
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> Float32[Tensor, "P D"]:
        """Return the embeddings of prompts in the pictures' space, not normalised, on the CPU."""
        ...


@runtime_checkable
class AudioEncoder(Protocol):
    """A frozen transformation of windows of sound into short sequences."""

    steps: int
    """Time steps of a window's embedding."""
    dim: int
    """Channels of a time step."""
    rate: int
    """Samples a second of the sound that `encode` expects."""
    fingerprint: dict[str, Any]
    """Everything that determines an embedding of a window, as plain JSON."""

    def encode(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        """Return the embeddings of mono sounds in [-1, 1], as sequences over time.

        They are on the device of the network, which may still be at work on them; the sound may be there already.
        """
        ...
