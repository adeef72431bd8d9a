"""The paper's own results (arXiv 2603.13415, tables 1 to 3), to stand beside ours: CCC on Aff-Wild2's validation set.

Its released evaluation scores the frames that we call `paper_subset`, about 4,087 of 383,814.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One row of a table of the paper."""

    table: int
    variant: str
    valence: float
    arousal: float
    mean: float


PAPER: tuple[Published, ...] = (
    Published(1, "ViT-B/32 + CNN audio", 0.2854, 0.5054, 0.3954),
    Published(1, "ViT-B/16 + AST", 0.3623, 0.6115, 0.4869),
    Published(2, "TCN, attention", 0.3068, 0.5876, 0.4472),
    Published(2, "TCN, gated", 0.3021, 0.6017, 0.4519),
    Published(2, "TCN, attention + gated", 0.4573, 0.5679, 0.5126),
    Published(2, "GRU, attention", 0.3623, 0.6115, 0.4869),
    Published(2, "GRU, gated", 0.3326, 0.5657, 0.4491),
    Published(2, "GRU, attention + gated", 0.4655, 0.6068, 0.5361),
    Published(3, "sigma 0.60", 0.3656, 0.5935, 0.4795),
    Published(3, "sigma 0.45, centres +-0.66", 0.4655, 0.6068, 0.5361),
)

HEADLINE = next(row for row in PAPER if row.variant == "GRU, attention + gated")
"""The whole method, as train/paper.toml has it."""
