"""Which videos are for training, validation and test: as the table's column says, from lists, or by GroupKFold."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import Field

from vaprompt.datasets.base import Split
from vaprompt.errors import DatasetError, RecipeError
from vaprompt.recipes import Recipe


class SplitRecipe(Recipe):
    """Splits that a description makes, in place of a column. What no list names and no fold holds is for training."""

    validation: list[str] = Field(default_factory=list)
    """Names of videos."""
    test: list[str] = Field(default_factory=list)
    """Names of videos; they need no rows in the table."""
    folds: int | None = Field(None, ge=2)
    """Deal all videos but the listed test videos into so many folds (scikit-learn's GroupKFold)."""
    fold: int = Field(1, ge=1)
    """The fold that is for validation, from 1."""
    group: str | None = None
    """Column of the table whose values stay together in one fold, such as the person; default: each video by itself."""

    @property
    def decides(self) -> bool:
        """Whether the description says the splits, and not a column."""
        return bool(self.validation or self.test or self.folds)


@dataclass(frozen=True)
class Named:
    """What a table says of one video."""

    name: str
    split: str | None
    group: str | None


def assign(videos: Sequence[Named], recipe: SplitRecipe | None, *, source: Path, table: Path) -> dict[str, Split]:
    """Return the split of each video; test videos that only the recipe names are added.

    Args:
        videos: the videos with rows.
        recipe: the description's `[splits]`; it comes before the table's column.
        source: the description, for errors.
        table: the table or folder of tables, for errors.

    Raises:
        RecipeError: the recipe contradicts itself.
        DatasetError: neither column nor recipe says the splits, a split has another name, a listed video is
            unknown, or there are fewer groups than folds.
    """
    if recipe is None or not recipe.decides:
        return {video.name: _of_column(video, source, table) for video in videos}
    _refuse_contradictions(recipe, source)
    known = [video.name for video in videos]
    for name in recipe.validation:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise DatasetError(
                source, fault=f"splits.validation names '{name}', which has no rows", remedy=f"nearest is '{near[0]}'"
            )
    splits: dict[str, Split] = dict.fromkeys(known, "train")
    splits |= dict.fromkeys(recipe.validation, "validation")
    splits |= dict.fromkeys(recipe.test, "test")
    if recipe.folds is not None:
        held_out = _fold([video for video in videos if splits[video.name] != "test"], recipe.folds, recipe.fold, source)
        splits |= dict.fromkeys(held_out, "validation")
    return splits


def _of_column(video: Named, source: Path, table: Path) -> Split:
    if video.split is None:
        raise DatasetError(
            source,
            fault=f"says nothing of splits, and {table} has no split for video '{video.name}'",
            remedy="add a column `split`, or [splits] with lists or folds to the description",
        )
    allowed: Mapping[str, Split] = {split: split for split in get_args(Split)}
    if video.split not in allowed:
        raise DatasetError(
            table,
            fault=f"split '{video.split[:40]}' of video '{video.name}' is not allowed",
            remedy="splits are called train, validation and test",
        )
    return allowed[video.split]


def _refuse_contradictions(recipe: SplitRecipe, source: Path) -> None:
    twice = sorted(set(recipe.validation) & set(recipe.test))
    if twice:
        raise RecipeError(source, fault=f"splits names '{twice[0]}' for validation and test", remedy="name it once")
    if recipe.folds is not None and recipe.validation:
        raise RecipeError(source, fault="splits has a list for validation and folds", remedy="keep one of the two")
    if recipe.folds is not None and recipe.fold > recipe.folds:
        fault = f"splits.fold = {recipe.fold} is not allowed"
        raise RecipeError(source, fault=fault, remedy=f"there are {recipe.folds} folds, counted from 1")


def _fold(videos: Sequence[Named], folds: int, fold: int, source: Path) -> list[str]:
    """Return the videos of one fold."""
    # Here, since scikit-learn takes a second to import, which no other data set needs.
    from sklearn.model_selection import GroupKFold

    ordered = sorted(videos, key=lambda video: video.name)
    groups = [video.group if video.group is not None else f"video {video.name}" for video in ordered]
    if len(set(groups)) < folds:
        raise DatasetError(
            source,
            fault=f"splits.folds = {folds}, but there are {len(set(groups))} groups",
            remedy="lower splits.folds",
        )
    held_out = [test for _, test in GroupKFold(n_splits=folds).split(ordered, groups=groups)][fold - 1]
    return [ordered[index].name for index in held_out]
