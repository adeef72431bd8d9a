"""What a run and its evaluation say of themselves on disk: all that a report or a plot starts from.

Axes: F frames of a video; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vaprompt.errors import RunError
from vaprompt.evaluation.kept import Evaluation, read_evaluation
from vaprompt.evaluation.protocols import Judged, official_series
from vaprompt.evaluation.smoothing import NONE, Smoothing, smoothed
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.files import parsed_json, text_of
from vaprompt.finetuning.recipe import AugmentationRecipe
from vaprompt.recipes import read_recipe, shipped, without_none
from vaprompt.store.fingerprint import differing
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import METRICS, RECIPE, read_complete

VIEWING = Smoothing("gaussian", 3.0)
"""What traces are smoothed with where `evaluate` chose no filter; for the eye alone, no score is made of it."""
SPEED_ALONE = ("image.batch", "image.compile", "audio.batch", "audio.compile")
"""Fields of extraction that change no feature."""
MEMORY_ALONE = ("at_once", "checkpointing")
"""Fields of fine-tuning that change its result by rounding, or as another seed would."""
STREAMS = ("image", "audio")


@dataclass(frozen=True)
class Difference:
    """A field of a recipe that is not the paper's."""

    field: str
    value: Any
    paper: Any


@dataclass(frozen=True)
class Evidence:
    """One evaluated run."""

    run: Path
    facts: dict[str, Any]
    """run.json."""
    recipe: TrainRecipe
    evaluation: Evaluation
    history: list[dict[str, Any]]
    """metrics.jsonl, an object an epoch."""
    smoothing: Smoothing
    """How the smoothed traces are made."""

    @property
    def name(self) -> str:
        """What the run is called: its folder."""
        return self.run.resolve().name

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return str(self.facts["store"]["dataset"].get("name", "unnamed"))

    @cached_property
    def ranked(self) -> list[Judged]:
        """The videos, worst CCC first, those that have no score last."""
        order = {name: index for index, name in enumerate(self.evaluation.result["videos"])}
        return sorted(self.evaluation.videos, key=lambda video: order.get(video.name, len(order)))

    @cached_property
    def smooth(self) -> dict[str, Judged]:
        """The same videos with smoothed predictions, by name."""
        return {video.name: smoothed(video, self.smoothing) for video in self.evaluation.videos}

    @cached_property
    def scored(self) -> list[Any]:
        """Name, predictions and labels of each video's valid frames."""
        return official_series(self.evaluation.videos)

    @cached_property
    def stopping(self) -> str:
        """The split whose score decided when the training stopped."""
        named = (
            key for line in self.history for key, value in line.items() if isinstance(value, dict) and "mean" in value
        )
        return next(named, "validation")

    @property
    def tuned(self) -> bool:
        """Whether the filter was chosen by `evaluate --tune-smoothing`, so that its scores mean something."""
        return self.evaluation.result["smoothing"] is not None


def gather(run: Path, smoothing: Smoothing | None = None) -> Evidence:
    """Return what a run's folder tells.

    Args:
        run: folder of a complete run that was evaluated.
        smoothing: filter of the smoothed traces; by default the one that `evaluate` chose, else `VIEWING`.

    Raises:
        RunError: it is no complete run, has no predictions (the error says which command makes them), or is damaged.
        RecipeError: its recipe is damaged.
    """
    facts = read_complete(run)
    evaluation = read_evaluation(run)
    chosen = evaluation.result["smoothing"]
    if smoothing is None:
        smoothing = VIEWING if chosen is None else Smoothing(chosen["kind"], chosen["seconds"])
        smoothing = VIEWING if smoothing == NONE else smoothing
    recipe = read_recipe(TrainRecipe, run / RECIPE)
    return Evidence(run, facts, recipe, evaluation, _history(run / METRICS), smoothing)


def _history(path: Path) -> list[dict[str, Any]]:
    try:
        lines = [parsed_json(line) for line in text_of(path).splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunError(path, fault=f"cannot be read ({error})", remedy="restore it, or train the run again") from None
    if not all(isinstance(line, dict) and isinstance(line.get("epoch"), int) for line in lines):
        raise RunError(path, fault="does not hold an epoch in every line", remedy="restore it, or train the run again")
    return lines


def from_paper(evidence: Evidence) -> tuple[list[Difference], list[Difference]]:
    """Return the fields of the extraction and of the training recipe that are not the paper's.

    What changes no feature, such as the size of batches in extraction, is left out, and so is the seed.
    """
    extraction = read_recipe(ExtractRecipe, shipped("extract", "paper")).model_dump(mode="json")
    training = read_recipe(TrainRecipe, shipped("train", "paper")).model_dump(mode="json")
    stage1 = _differences(evidence.facts.get("extraction", {}), without_none(extraction), SPEED_ALONE)
    stage2 = _differences(without_none(evidence.recipe.model_dump(mode="json")), without_none(training), ("seed",))
    return stage1, stage2


def _differences(own: Mapping[str, Any], paper: Mapping[str, Any], apart: Sequence[str]) -> list[Difference]:
    return [Difference(key, *both) for key, both in differing(own, paper).items() if key not in apart]


def differing_fields(several: Sequence[Evidence]) -> dict[str, list[Any]]:
    """Return the fields in which the runs' recipes, features or data sets are not all alike, with each run's value."""
    described = [
        {
            "extraction": one.facts.get("extraction", {}),
            "train": without_none(one.recipe.model_dump(mode="json")),
            "finetune": tuning(one.facts),
            "features": one.facts["store"]["fingerprints"],
            "dataset": one.facts["store"]["dataset"],
            "sources": told_sources(one.facts),
            "scored": {"split": one.evaluation.result["split"], "every": one.evaluation.result.get("every")},
        }
        for one in several
    ]
    return differing_among(described)


def told_sources(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the beginnings of the digests of what labels and features were made of; none of a run of before those."""
    return {stream: digest.partition(":")[2][:8] for stream, digest in facts["store"].get("sources", {}).items()}


def tuning(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fine-tuning did beside what its training recipe says of it, such as its seed and epochs.

    What changes memory and time alone is left out. Encoders of a run on cached features stay as they are.
    """
    recipe = facts.get("finetune")
    if recipe is None:
        return {**{stream: {"tune": "none"} for stream in STREAMS}, "augmentation": AugmentationRecipe().model_dump()}
    found = _beside(recipe, facts["recipe"])
    for key in MEMORY_ALONE:
        found.pop(key, None)
    for stream in STREAMS:
        part = found.get(stream)
        if isinstance(part, dict) and part.get("tune") != "last":
            part.pop("blocks", None)  # of no meaning
    return found


def _beside(recipe: Mapping[str, Any], said: Any) -> dict[str, Any]:
    """Return the fields of a recipe that another one does not have."""
    others = said if isinstance(said, Mapping) else {}
    return {
        key: _beside(value, others.get(key)) if isinstance(value, Mapping) else value
        for key, value in recipe.items()
        if isinstance(value, Mapping) or key not in others
    }


def differing_among(described: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the fields, by dotted key, in which descriptions are not all alike, with each one's value.

    Where some make no use of a modality, how its features were made, and of what, differs only if it does among the
    others.
    """
    keys: set[str] = set()
    for other in described[1:]:
        keys |= differing(described[0], other).keys()
    fields = {key: [_value(one, key.split(".")) for one in described] for key in sorted(keys)}
    return {key: values for key, values in fields.items() if _differs(key, values, described)}


def _differs(key: str, values: Sequence[Any], described: Sequence[Mapping[str, Any]]) -> bool:
    part, _, rest = key.partition(".")
    stream = rest.partition(".")[0]
    if part not in ("features", "sources") or stream == "labels":
        return True
    using = [value for value, one in zip(values, described, strict=True) if stream in one.get(part, {})]
    return any(value != using[0] for value in using)


def _value(described: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = described
    for index, part in enumerate(path):
        if not isinstance(found, Mapping):
            return "nothing"
        rest = ".".join(path[index:])
        if rest in found:  # a key may hold a dot itself
            return found[rest]
        found = found.get(part, "nothing")
    return found
