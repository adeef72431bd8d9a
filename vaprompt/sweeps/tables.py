"""The paper's tables in the paper's own form, its numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaprompt.errors import RecipeError
from vaprompt.evaluation.paper import PAPER, Published
from vaprompt.evaluation.several import Spread, spread
from vaprompt.sweeps.results import Found
from vaprompt.sweeps.variants import Sweep

AXES = ("valence", "arousal", "mean")
COLUMNS: Mapping[int, tuple[str, ...]] = {
    1: ("Backbone Configuration",),
    2: ("Temporal", "Fusion"),
    3: ("Grid Centers", "sigma"),
}
"""What stands before the scores in each table."""
TITLES: Mapping[int, str] = {
    1: "Table 1: backbones",
    2: "Table 2: over time, and fusion",
    3: "Table 3: grid of regions",
}


@dataclass(frozen=True)
class TableRow:
    """One row of a table."""

    what: tuple[str, ...]
    """The row's first columns."""
    paper: Published
    ours: Mapping[str, Mapping[str, Spread]]
    """For `paper_subset` and `official`, each axis' score over the seeds."""


def paper_rows(sweep: Sweep) -> list[Published]:
    """Return the rows of the paper's table that a sweep is to fill, in the paper's order; none if it names no table.

    Raises:
        RecipeError: a variant is called like none of its rows.
    """
    rows = [row for row in PAPER if row.table == sweep.recipe.table]
    names = [row.variant for row in rows]
    for variant in sweep.variants if rows else ():
        if variant.name not in names:
            raise RecipeError(
                sweep.source,
                fault=f"variant '{variant.name}' is no row of the paper's table {sweep.recipe.table}",
                remedy=f"its rows are: {'; '.join(names)}; or leave 'table' out",
            )
    return [row for row in rows if any(variant.name == row.variant for variant in sweep.variants)]


def table_rows(sweep: Sweep, found: Sequence[Found]) -> list[TableRow]:
    """Return the paper's table with our scores, as far as they are known.

    Raises:
        RecipeError: a variant is called like none of its rows.
    """
    rows = []
    for row in paper_rows(sweep):
        mine = [one for one in found if one.variant.name == row.variant]
        ours = {
            protocol: {axis: spread([_score(one, protocol, axis) for one in mine]) for axis in AXES}
            for protocol in ("paper_subset", "official")
        }
        rows.append(TableRow(_what(row, mine[0]), row, ours))
    return rows


def _score(one: Found, protocol: str, axis: str) -> float | None:
    if one.scores is None:
        return None
    value: float | None = one.scores[protocol][axis]
    return value


def _what(row: Published, one: Found) -> tuple[str, ...]:
    """Return a row's first columns as the paper has them."""
    recipe = one.variant.recipe
    if row.table == 2:
        fusion = {"attention": "CM Attn.", "gated": "Gated", "attention+gated": "Attn. + Gated"}
        return recipe.model.temporal.kind.upper(), fusion.get(recipe.model.fusion.kind, recipe.model.fusion.kind)
    if row.table == 3:
        return _centres(recipe.regions.valence), f"{recipe.regions.sigma:.2f}"
    return (row.variant,)


def _centres(centres: Sequence[float]) -> str:
    return "{" + ", ".join(f"{centre:g}" for centre in centres) + "}"


def table_json(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Return a table as JSON-ready values."""
    return [
        {
            "row": list(row.what),
            "variant": row.paper.variant,
            "paper": {"valence": row.paper.valence, "arousal": row.paper.arousal, "mean": row.paper.mean},
            "ours": row.ours,
        }
        for row in rows
    ]
