"""The variants that a sweep is made of: names, folders and whole training recipes, checked before any is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from vaprompt.errors import RecipeError, UnfitError
from vaprompt.recipes import changed, known_keys, read_recipe, read_toml, shipped, validated, without_none
from vaprompt.sweeps.recipe import SearchRecipe, SweepRecipe, VariantRecipe, with_fields
from vaprompt.training.recipe import TrainRecipe

MOST = 10_000
"""Variants of a sweep: more are a slip in the grid."""


@dataclass(frozen=True)
class Variant:
    """One training of a sweep."""

    name: str
    """What it is called; variants that differ in the seed alone have one name."""
    recipe: TrainRecipe
    run: Path
    """Its run's folder."""

    @property
    def label(self) -> str:
        """Its run's name, which says the seed too where there are several."""
        return self.run.name


@dataclass(frozen=True)
class Sweep:
    """A sweep's recipe, read and checked."""

    source: Path
    recipe: SweepRecipe
    base: Mapping[str, Any]
    """The fields of the training recipe that all variants start from."""
    variants: tuple[Variant, ...]
    """None for a search, whose variants are found while it runs."""

    @property
    def search(self) -> SearchRecipe | None:
        """The search, if it is one."""
        return self.recipe.search


def read_sweep(source: Path, runs: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Return the sweep that a TOML file describes.

    Args:
        source: the file.
        runs: folder for the variants' runs.
        overrides: `--set key=value` for all variants, fields of the training recipe; a variant's own value comes
            before it.

    Raises:
        RecipeError: the file, its base or a variant is faulty; a misspelt field comes with the nearest name.
    """
    recipe = read_recipe(SweepRecipe, source)
    base = read_toml(shipped("train", "paper") if recipe.base is None else source.parent / recipe.base)
    base = with_fields(base, recipe.shared)
    checked = changed(TrainRecipe, base, overrides, where=f"{source}, base and shared", folder=source.parent)
    base = without_none(checked.model_dump(mode="json"))
    if recipe.search is not None:
        _check_search(source, recipe.search, base)
        return Sweep(source, recipe, base, ())
    variants = _expanded(source, recipe, base, runs)
    return Sweep(source, recipe, base, variants)


def base_of(sweep: Sweep, runs: Path) -> Variant:
    """Return what a search's trials start from, as a variant that is not trained itself."""
    return Variant("base", validated(TrainRecipe, sweep.base, where=str(sweep.source)), runs / ".base")


def _expanded(source: Path, recipe: SweepRecipe, base: Mapping[str, Any], runs: Path) -> tuple[Variant, ...]:
    axes = recipe.axes()
    short = short_names(list(axes))
    points = list(product(*axes.values()))
    listed = recipe.variant or (VariantRecipe(name="base"),)
    count = len(listed) * len(points) * max(1, len(recipe.seeds))
    if count > MOST:
        raise RecipeError(source, fault=f"makes {count} variants", remedy=f"{MOST} are the most: shorten the grid")
    found: dict[str, Variant] = {}
    for one in listed:
        for point in points:
            fields = dict(zip(axes, point, strict=True))
            differing = ", ".join(f"{short[key]}={_shown(value)}" for key, value in fields.items())
            name = ", ".join(part for part in (one.name if recipe.variant or not fields else "", differing) if part)
            where = f"{source}, variant '{name}'"
            values = with_fields(with_fields(base, one.set), fields)
            whole = validated(TrainRecipe, values, where=where, folder=source.parent)
            for seed in recipe.seeds or (whole.seed,):
                seeded = validated(TrainRecipe, with_fields(whole.model_dump(mode="json"), {"seed": seed}), where=where)
                folder = folder_name(name) + (f"-seed{seed}" if recipe.seeds else "")
                if folder in found:
                    raise RecipeError(
                        source,
                        fault=f"'{found[folder].name}' and '{name}' would both be trained in {runs / folder}",
                        remedy="give one of them another name",
                    )
                found[folder] = Variant(name, seeded, runs / folder)
    _require_distinct(source, list(found.values()))
    return tuple(found.values())


def _require_distinct(source: Path, variants: Sequence[Variant]) -> None:
    known: dict[str, str] = {}
    for variant in variants:
        same = known.setdefault(variant.recipe.model_dump_json(), variant.label)
        if same != variant.label:
            raise RecipeError(
                source, fault=f"'{same}' and '{variant.label}' are one and the same", remedy="leave one of them out"
            )


def _check_search(source: Path, search: SearchRecipe, base: Mapping[str, Any]) -> None:
    """Check that each end of each range, and each choice, is one that the training recipe takes.

    What does not fit together is found where it comes up: a trial of such values fails.

    Raises:
        RecipeError: one is not.
    """
    for key, space in search.spaces().items():
        if space.step is not None and not space.step.is_integer() and is_whole(key):
            raise RecipeError(
                f"{source}, search.space.{key}",
                fault=f"step = {space.step:g} is not whole, and the field takes whole numbers alone",
                remedy="give a whole number as step, or leave it out for 1",
            )
        for value in space.choices if space.choices is not None else (space.low, space.high):
            with suppress(UnfitError):  # with the base's other fields, which a trial may give other values as well
                validated(
                    TrainRecipe,
                    with_fields(base, {key: as_given(key, value)}),
                    where=f"{source}, search.space.{key}",
                    folder=source.parent,
                )


def as_given(key: str, value: Any) -> Any:
    """Return a value of a range as an integer where the field holds one."""
    return round(value) if isinstance(value, float) and value.is_integer() and is_whole(key) else value


def is_whole(key: str) -> bool:
    """Say whether a field of the training recipe, by its dotted key, takes whole numbers alone."""
    kinds: tuple[Any, ...] = (TrainRecipe,)
    for part in key.split("."):
        below = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if below is None or part not in below.model_fields:
            return False
        annotation = below.model_fields[part].annotation
        kinds = (annotation, *get_args(annotation))
    return int in kinds and float not in kinds


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return for each dotted key as few of its last parts as tell it from all other fields of a training recipe."""
    known = {*known_keys(TrainRecipe), *keys}
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        found[key] = next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in known) == 1)
    return found


def folder_name(name: str) -> str:
    """Return a name as that of a folder: letters, digits and a few signs that need no quoting."""
    plain = re.sub(r"[^A-Za-z0-9.=_+-]+", "-", name).strip("-.")
    return plain[:120] or "variant"


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(_shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
