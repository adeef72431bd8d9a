"""Dropout whose masks can be drawn beforehand, so that networks trained side by side meet the same ones as alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = 2**16
"""A mask is drawn in 16 bits an element, of which four come from one draw: a fifth of a Bernoulli draw's time."""


_HERE = threading.local()


@contextmanager
def drawn_by(generator: torch.Generator) -> Iterator[None]:
    """Let a generator of the masks' device draw them while the block runs, in this thread."""
    _HERE.generator = generator
    try:
        yield
    finally:
        _HERE.generator = None


class Dropout(nn.Module):
    """Sets elements to zero while training, and scales the others up for it."""

    def __init__(self, share: float, *, windows: int = 1) -> None:
        """Drop a share of the elements, in steps of 1 / 65,536; `windows` is the axis of windows in the input."""
        super().__init__()
        self.windows = windows
        self._dropped = round(share * LEVELS)
        self.kept: Tensor | None
        """A mask to use in place of one of its own."""
        self.register_buffer("kept", None, persistent=False)

    def forward(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return what is left of the values."""
        if not self.training or (self._dropped == 0 and self.kept is None):
            return values
        return values * (self.draw(tuple(values.shape), values.device) if self.kept is None else self.kept)

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return a mask for an input of this shape: 0 where it is dropped, else what it is multiplied by."""
        if self._dropped == 0:
            return torch.ones(shape, device=device)
        count = torch.Size(shape).numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=device)
        words.random_(torch.iinfo(torch.int64).min, None, generator=getattr(_HERE, "generator", None))
        drawn = words.view(torch.int16)[:count].view(shape)
        return (drawn >= self._dropped - LEVELS // 2).float().mul_(LEVELS / (LEVELS - self._dropped))


class WindowDropout(Dropout):
    """Puts something else in the place of whole windows while training."""

    def __init__(self, share: float) -> None:
        """Replace a share of the windows, which are the input's second axis."""
        super().__init__(share, windows=1)

    def forward(
        self, values: Float[Tensor, "S B *rest"], other: Float[Tensor, "S 1 *rest"] | None = None
    ) -> Float[Tensor, "S B *rest"]:
        """Return the values, and the other in some windows."""
        if other is None or not self.training or self._dropped == 0:
            return values
        self.shape = (1, values.shape[1], *(1 for _ in values.shape[2:]))
        kept = self.draw(self.shape, values.device) if self.kept is None else self.kept
        return torch.where(kept > 0, values, other)
