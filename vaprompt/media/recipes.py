"""How sound becomes a picture: the recipe alone, free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vaprompt.recipes import Recipe


class LogMelRecipe(Recipe):
    """How sound becomes a log-Mel picture; the defaults are those of AST's published weights."""

    rate: int = Field(16000, ge=8000, le=192000)
    """Samples a second of the sound that is given."""
    bins: int = Field(128, ge=8, le=512)
    """Mel bands between 20 Hz and half the sample rate."""
    frames: int = Field(1024, ge=1)
    """Length of the picture in frames of 10 ms; shorter sound is padded at its end, longer sound is cut."""
    mean: float = -4.2677393
    """Subtracted from the logarithms (the mean over AudioSet)."""
    std: float = Field(4.5689974, gt=0)
    """The result is divided by twice this value, so that it spreads over about +-0.5."""

    @property
    def reach(self) -> float:
        """Seconds of sound that fit on the picture; what comes behind is cut."""
        return (self.frames - 1) * 0.010 + 0.025


class DecibelRecipe(Recipe):
    """How sound becomes the released code's picture; a store's fingerprint holds every field."""

    kind: Literal["decibel"] = "decibel"
    rate: int = Field(16000, ge=8000, le=192000)
    """Samples a second of the sound that is given."""
    bins: int = Field(128, ge=8, le=512)
    """Mel bands between 0 Hz and half the sample rate."""
    frames: int = Field(1024, ge=1)
    """Length of the picture in columns; shorter sound is padded with zeros behind, longer sound is cut."""
    fft: int = Field(1024, ge=64, le=16384)
    """Samples of a column's Hann window (released)."""
    hop: int = Field(512, ge=16, le=16384)
    """Samples from one column to the next (released)."""
    spread: float = Field(0.5, gt=0)
    """Standard deviation of the columns that hold sound, whose mean is 0 (released)."""

    @property
    def reach(self) -> float:
        """Seconds of sound that fit on the picture; what comes behind is cut."""
        return self.frames * self.hop / self.rate
