"""A sweep's recipe: which variants of a training recipe are to be trained.

Fields of the training recipe are given by dotted keys (`"loss.kl" = 0.1`) or nested, as in a training recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from vaprompt.recipes import Recipe

Scalar = bool | int | float | str
RANGE = {"low", "high", "log", "step"}
CHOICES = {"choices"}


class VariantRecipe(Recipe):
    """One variant of a list."""

    name: str = Field(min_length=1, max_length=80)
    """What it is called; its runs' folders are named after it."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the training recipe in which it differs."""


class Space(Recipe):
    """The values that a search may give one field: a range, or a list of choices."""

    low: float | None = None
    high: float | None = None
    """Both ends belong to the range."""
    log: bool = False
    """Whether factors count, and not differences, as for a learning rate."""
    step: float | None = Field(None, gt=0)
    """Between the values that are tried; left out: any."""
    choices: tuple[Scalar, ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Space:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("give low and high, or choices")
        if self.choices is not None and (self.low is not None or self.high is not None or self.log or self.step):
            raise ValueError("choices have no range")
        if self.low is not None and self.high is not None:
            if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
                raise ValueError("low must be below high")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("log needs low above 0, and no step")
        return self


class SearchRecipe(Recipe):
    """A search with Optuna, for the mean CCC by which training chooses its best epoch."""

    trials: int = Field(ge=1, le=100_000)
    """How many variants are tried, those of earlier calls included."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How values are chosen: by what was found so far, or at random."""
    pruner: Literal["median", "none"] = "median"
    """What stops a variant early: a score below the median of the others at the same epoch."""
    startup: int = Field(5, ge=0, le=100_000)
    """Variants that are trained whole before any is stopped early."""
    warmup: int = Field(2, ge=0, le=100_000)
    """Epochs before which none is stopped."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Of the sampler."""
    space: dict[str, Any] = Field(min_length=1)
    """For each field a range or choices."""

    @model_validator(mode="after")
    def _consistent(self) -> SearchRecipe:
        self.spaces()
        return self

    def spaces(self) -> dict[str, Space]:
        """Return the field's spaces by dotted key."""
        found = {}
        for key, value in flattened(self.space, leaf=_is_space):
            if not isinstance(value, Mapping):
                raise ValueError(f"space.{key} must be a range such as {{ low = 0.0, high = 1.0 }}, or choices")
            found[key] = Space.model_validate(value)
        return found


class SweepRecipe(Recipe):
    """Variants: each of a list with each of a grid with each seed; or a search."""

    base: str | None = None
    """The training recipe that all variants start from, beside this file; left out: the paper's."""
    shared: dict[str, Any] = Field(default_factory=dict)
    """Fields in which all variants differ from it."""
    seeds: tuple[int, ...] = Field((), max_length=1000)
    """Each variant is trained once with each; left out: once, with the recipe's."""
    variant: tuple[VariantRecipe, ...] = ()
    """The list."""
    grid: dict[str, Any] = Field(default_factory=dict)
    """For each field a list of values, of which every combination is trained."""
    search: SearchRecipe | None = None
    table: Literal[1, 2, 3] | None = None
    """The paper's table that the variants' names are rows of: it is printed with the paper's numbers beside ours."""

    @model_validator(mode="after")
    def _consistent(self) -> SweepRecipe:
        if self.search is not None and (self.variant or self.grid or self.seeds):
            raise ValueError("a search has no variants, grid or seeds beside it")
        if self.search is None and not (self.variant or self.grid or self.seeds):
            raise ValueError("give variants ([[variant]]), a [grid], seeds, or a [search]")
        names = [one.name for one in self.variant]
        if len(set(names)) < len(names):
            raise ValueError("two variants have one name")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is given twice")
        self.axes()
        return self

    def axes(self) -> dict[str, list[Any]]:
        """Return the grid's values by dotted key."""
        found = dict(flattened(self.grid))
        for key, values in found.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"grid.{key} must be a list of values, at least one, such as [0.0, 0.2]")
            if len({repr(value) for value in values}) < len(values):
                raise ValueError(f"grid.{key} has a value twice")
        return found


def _is_space(value: Mapping[str, Any]) -> bool:
    return bool(value) and (value.keys() <= RANGE or value.keys() <= CHOICES)


def flattened(fields: Mapping[str, Any], *, leaf: Any = lambda _: False, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of fields that may be nested.

    Args:
        fields: keys may have dots themselves.
        leaf: says of a table whether it is a value, and not fields below the key.
        prefix: before each key.
    """
    for key, value in fields.items():
        if isinstance(value, Mapping) and not leaf(value):
            yield from flattened(value, leaf=leaf, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def with_fields(values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values in which fields, by dotted key or nested, have other values."""
    now: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for key, value in flattened(fields):
        *parents, last = key.split(".")
        place = now
        for parent in parents:
            below = place.get(parent)
            place[parent] = dict(below) if isinstance(below, Mapping) else {}
            place = place[parent]
        place[last] = value
    return now
