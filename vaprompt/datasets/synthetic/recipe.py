"""The few numbers that determine a synthetic data set down to its last label."""

from __future__ import annotations

from pydantic import Field

from vaprompt.recipes import Recipe


class SyntheticRecipe(Recipe):
    """How much is drawn, and from which seed."""

    videos: int = Field(32, ge=3, le=500)
    """Annotated people, over all splits. From 6 on, everything that Aff-Wild2 contains occurs (see cast.py)."""
    seconds: float = Field(40.0, ge=2, le=3600)
    """Length of each video, give or take a tenth."""
    seed: int = Field(0, ge=0)
    """Other seeds give other people, paths and voices."""
    validation_share: float = Field(0.25, gt=0, lt=0.5)
    """Part of the videos in the validation split; at least one."""
    test_share: float = Field(0.125, gt=0, lt=0.5)
    """Part of the videos in the test split, which has no labels; at least one."""
