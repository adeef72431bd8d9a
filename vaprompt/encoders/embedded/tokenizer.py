"""The miniature CLIP's alphabet: one token a byte, so that any sentence can be asked without a vocabulary file.

Axes: P texts, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

CONTEXT = 96
"""Tokens a text; "a photo of a person who looks " and 45 characters of phrase need 77."""
PADDING, START, END = 0, 257, 258
"""Byte b is token b + 1. END is the greatest: open_clip reads a text's embedding where the greatest token stands."""
VOCABULARY = 259


def tokenize(texts: Sequence[str]) -> Int64[Tensor, "P L"]:
    """Return each text as its lower-case UTF-8 bytes between START and END; longer ones are cut, END kept."""
    token_PL = np.full((len(texts), CONTEXT), PADDING, dtype=np.int64)
    for row_L, text in zip(token_PL, texts, strict=True):
        letters = [byte + 1 for byte in text.lower().encode("utf-8")[: CONTEXT - 2]]
        row_L[: len(letters) + 2] = [START, *letters, END]
    return torch.from_numpy(token_PL)
