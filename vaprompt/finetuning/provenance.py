"""What a fine-tuned run says of its making, and how its folder comes to hold encoders of its own."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import vaprompt
from vaprompt.datasets.base import Dataset
from vaprompt.encoders.recipes import remarks
from vaprompt.errors import RunError
from vaprompt.extraction.fingerprints import dataset_fingerprints
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.files import make_folder
from vaprompt.finetuning.recipe import FinetuneRecipe, TuningRecipe
from vaprompt.finetuning.step import STREAMS, RawEncoders, Stream
from vaprompt.recipes import validated, without_none
from vaprompt.store import FeatureStore
from vaprompt.training.facts import CLIP_NOTE, other_sources, sources_of
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import CHECKPOINT, ENCODERS, FORMAT, OWN, Run

NO_GAIN = "no epoch was better than the run that it started from"


def facts_at_start(
    parent: Run, store: FeatureStore, recipe: FinetuneRecipe, heads: TrainRecipe, device: str
) -> dict[str, Any]:
    """Return run.json as it is before the first step."""
    kept = ("dims", "videos")
    return {
        "format": FORMAT,
        "status": "training",
        "made_with": "finetune",
        "recipe": without_none(heads.model_dump(mode="json")),
        "finetune": without_none(recipe.model_dump(mode="json")),
        "parent": {
            "run": str(parent.path),
            "checkpoint": _digest(parent.path / CHECKPOINT),
            "fingerprints": parent.facts["store"]["fingerprints"],
            "best": parent.facts.get("best"),
        },
        "store": {
            "path": str(store.location),
            "fingerprints": parent.facts["store"]["fingerprints"],
            "dataset": store.dataset,
            "sources": sources_of(store, ("labels", *parent.recipe.model.modalities), parent.facts["videos"]),
        },
        "extraction": parent.facts["extraction"],
        **{key: parent.facts[key] for key in kept},
        "notes": _notes(parent, recipe),
        "made_by": {
            "vaprompt": vaprompt.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
            "device": device,
            "threads": torch.get_num_threads(),
        },
    }


def _notes(parent: Run, recipe: FinetuneRecipe) -> list[str]:
    # Of a run that was itself tuned, whether it gained is no matter of the new one.
    before = [note for note in parent.facts.get("notes", []) if note != NO_GAIN]
    notes = [*before, *remarks(parent.facts["extraction"])]
    # What is compared with the prototypes is not frozen any more: the KL term reaches the image encoder.
    learns = recipe.image.tune != "none" and "image" in parent.recipe.model.modalities
    return [note for note in dict.fromkeys(notes) if not (learns and note == CLIP_NOTE)]


def require_same(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a fine-tuning of something else; name what differs.

    Raises:
        RunError: the recipe, the run that it starts from, its videos, its data set or its labels are others.
    """
    differing = [
        line
        for key in ("made_with", "finetune", "recipe", "parent.checkpoint", "videos", "store.dataset")
        for line in _differences(_at(before, key), _at(now, key), key)
    ]
    differing += other_sources(before, now)
    if differing:
        raise RunError(
            run, fault=f"holds a run that differs in {', '.join(differing[:5])}", remedy="name a new folder with --run"
        )


def own_streams(parent: Run, encoders: RawEncoders) -> tuple[Stream, ...]:
    """Return whose encoders the new run's folder must hold: those that are tuned, now or in a run before."""
    inside = str((parent.path / ENCODERS).absolute())
    before = {stream for stream in STREAMS if str(parent.facts["extraction"][stream]["weights"]).startswith(inside)}
    return tuple(stream for stream in STREAMS if stream in encoders.tuned or stream in before)


def save_encoders(run: Path, encoders: RawEncoders, streams: tuple[Stream, ...]) -> None:
    """Write encoders into the run's folder, each in a folder that an extraction recipe can name as weights.

    Raises:
        TargetError: they cannot be written.
    """
    for stream in streams:
        encoder = encoders.image if stream == "image" else encoders.audio
        if encoder is not None:
            make_folder(run / ENCODERS / stream)
            encoder.save(run / ENCODERS / stream)


def facts_of_encoders(
    run: Path, extraction: Mapping[str, Any], dataset: Dataset, encoders: RawEncoders, recipe: FinetuneRecipe,
    streams: tuple[Stream, ...],
) -> dict[str, Any]:  # fmt: skip
    """Return the extraction recipe with the run's own encoders, fingerprints of those in use, and what was trained.

    Args:
        run: the folder that they were saved in.
        extraction: the recipe that the run's parent was made with.
        dataset: what the parent's store was made of.
        encoders: the networks.
        recipe: what was trained of them.
        streams: those that were saved.
    """
    named = {**extraction} | {stream: {**extraction[stream], "weights": f"{OWN}{stream}"} for stream in streams}
    placed = {**extraction} | {
        stream: {**extraction[stream], "weights": str((run / ENCODERS / stream).absolute())} for stream in streams
    }
    made_by = validated(ExtractRecipe, placed, where=str(run))
    fingerprints = dataset_fingerprints(made_by, dataset)
    tuned = {}
    for stream in encoders.tuned:
        part: TuningRecipe = getattr(recipe, stream)
        network = getattr(encoders, stream)
        tuned[stream] = {
            "tune": part.tune,
            **({"blocks": part.blocks} if part.tune == "last" else {}),
            "parameters": sum(value.numel() for value in network.parameters() if value.requires_grad),
            "weights": fingerprints[stream]["weights"],
        }
    used = [name for name in STREAMS if getattr(encoders, name) is not None]
    return {"extraction": named, "encoders": tuned, "fingerprints": {name: fingerprints[name] for name in used}}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _at(facts: Mapping[str, Any], key: str) -> Any:
    value: Any = facts
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _differences(old: Any, new: Any, key: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [line for name in names for line in _differences(old.get(name), new.get(name), f"{key}.{name}")]
    if old == new:
        return []
    short = not isinstance(old, list) and not isinstance(new, list)
    return [f"{key} ({old} there, {new} asked for)" if short else key]
