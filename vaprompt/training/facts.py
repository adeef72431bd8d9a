"""What a run says of its making, and whether what is there is the run that is asked for."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import vaprompt
from vaprompt.errors import RecipeError, RunError
from vaprompt.recipes import validated, without_none
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import FACTS, FORMAT

CLIP_NOTE = (
    "prompt.semantic = 'clip' compares the frozen CLIP embedding with the prototypes, as released: "
    "the KL term has no gradient and trains nothing"
)


CONTEXT_NOTE = (
    "prompt.words = 'learned_context' learns nothing here: with loss.kl = 0 and the regression head, "
    "nothing looks at regions"
)


def facts_of(store: FeatureStore, recipe: TrainRecipe, device: str, stopping: str) -> dict[str, Any]:
    """Return what a run must say of its making before it starts."""
    videos = {split: store.videos(split) for split in ("train", stopping)}
    return {
        "format": FORMAT,
        "status": "training",
        "recipe": without_none(recipe.model_dump(mode="json")),
        "store": {
            "path": str(store.location),
            "fingerprints": {stream: store.fingerprint(stream) for stream in recipe.model.modalities},
            "dataset": store.dataset,
            "sources": sources_of(store, ("labels", *recipe.model.modalities), videos),
        },
        "extraction": store.recipe,
        "videos": videos,
        "made_by": {
            "vaprompt": vaprompt.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
            "device": device,
            "threads": torch.get_num_threads(),
        },
    }


def sources_of(store: FeatureStore, streams: Sequence[str], videos: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return for each stream a digest of the files that it was made of, which tells labels that were corrected since.

    The content counts: neither where a file lies, nor when it was written.
    """
    names = sorted(name for of_split in videos.values() for name in of_split)
    return {stream: _digest([_contents(store.summary(stream, name)) for name in names]) for stream in streams}


def _contents(marker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digests of a video's files; of a table that others stand in too, that of its own rows."""
    files: Mapping[str, Mapping[str, Any]] = marker.get("source", {})
    return {
        name: next((file[key] for key in ("rows", "content", "sha256") if key in file), None)
        for name, file in files.items()
    }


def _digest(value: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()}"


def notes_on(store: FeatureStore, recipe: TrainRecipe) -> list[str]:
    """Return what whoever looks at the run should know."""
    notes = []
    if recipe.model.prompt.semantic == "clip" and recipe.loss.kl > 0:
        notes.append(CLIP_NOTE)
    loss, model = recipe.loss, recipe.model
    learned = model.prompt.words == "learned_context"
    if learned and loss.kl == (loss.kl_end or 0) == 0 and model.head.kind != "expectation":
        notes.append(CONTEXT_NOTE)
    if store.failed():
        notes.append(f"{len(store.failed())} videos failed in extraction and are not in the store")
    return notes


def require_same(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a run of another recipe or store.

    Raises:
        RunError: it names what differs.
    """
    differing = _differences(_with_defaults(before["recipe"]), now["recipe"])
    differing += [
        f"store.{key}" for key in ("fingerprints", "dataset") if before["store"].get(key) != now["store"][key]
    ]
    differing += [
        f"videos.{split}" for split, names in now["videos"].items() if before.get("videos", {}).get(split) != names
    ]
    differing += other_sources(before, now)
    if differing:
        raise RunError(run, fault=f"holds a run that differs in {', '.join(differing[:5])}", remedy="name a new folder")


def other_sources(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return which of a run's streams are made of other files now; none of a run of before this was written down."""
    asked: Mapping[str, str] = now["store"]["sources"]
    known: Mapping[str, str] = before["store"].get("sources", asked)
    return [f"store.sources.{stream}" for stream, digest in asked.items() if known.get(stream) != digest]


def are_relabelled(store: FeatureStore, facts: Mapping[str, Any]) -> bool:
    """Say whether the labels that a run was trained on are others in a store; no where that lacks one of its videos."""
    sources, videos = facts["store"].get("sources"), facts.get("videos", {})
    there = all(store.has("labels", name) for names in videos.values() for name in names)
    if not there or not isinstance(sources, Mapping):
        return False
    return sources_of(store, ("labels",), videos)["labels"] != sources.get("labels")


def _with_defaults(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a run's recipe with the fields that there were not yet when it was made, which had no effect then."""
    try:
        return without_none(validated(TrainRecipe, recipe, where=FACTS).model_dump(mode="json"))  # type: ignore[no-any-return]
    except RecipeError:
        return recipe


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [
            line for name in names for line in _differences(old.get(name), new.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if old == new else [f"{key} ({old} there, {new} asked for)"]
