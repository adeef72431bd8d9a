"""`vaprompt report RUN`: one page that says what a run is, how good it is, where it fails, and what it looked at.

Axes: F frames of a video, W windows, K regions, T image steps, S audio steps; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tomli_w

from vaprompt.evaluation.paper import HEADLINE
from vaprompt.evaluation.protocols import Judged
from vaprompt.recipes import without_none
from vaprompt.report.densities import densities
from vaprompt.report.evidence import Evidence, from_paper
from vaprompt.report.explaining import Explained
from vaprompt.report.pages import packing
from vaprompt.report.pages.page import CHART_SCRIPTS, CHART_STYLES, Page
from vaprompt.report.pages.sound import packed_sound
from vaprompt.report.studying import Study

SPARK = 110
"""Pixels of a small trace in the list of videos."""
SCRIPTS = (*CHART_SCRIPTS, "heat.js", "sound.js", "videos.js", "plane.js", "run.js")
STYLES = (*CHART_STYLES, "heat.css", "run.css")


def run_page(evidence: Evidence, study: Study) -> Page:
    """Return the page about one run."""
    result = evidence.evaluation.result
    differing = {
        f"{stage}: {one.field}": (one.value, one.paper)
        for stage, found in zip(("extraction", "training"), from_paper(evidence), strict=True)
        for one in found
    }
    videos = evidence.ranked
    context = {
        "evidence": evidence,
        "result": result,
        "about": about_run(evidence, differing),
        "differing": list(differing.items()),
        "recipe": evidence.recipe,
        "recipe_text": tomli_w.dumps(without_none(evidence.recipe.model_dump(mode="json"))),
        "extraction_text": tomli_w.dumps(without_none(evidence.facts.get("extraction", {}))),
        "score_rows": score_rows(evidence),
        "frames": sum(len(video.time_F) for video in videos),
        "seconds": sum(float(video.time_F[-1]) for video in videos),
        "study": study,
        "notes": [*result["notes"], *study.notes],
        "regions": regions_table(evidence, study),
        "has_attention": any(one.attention_WTS is not None for one in study.explained.values()),
    }
    data: dict[str, Any] = {"report": _overview(evidence, study)}
    for index, video in enumerate(videos):
        data[f"video-{index}"] = _video(evidence, study, video)
    return Page("run.html", f"{evidence.name}: report", context, data, SCRIPTS, STYLES)


@dataclass(frozen=True)
class Fact:
    """One thing to know about a run."""

    name: str
    shown: str
    changed: bool = False
    """Whether it is not as in the paper."""


def about_run(evidence: Evidence, differing: Mapping[str, Any]) -> list[Fact]:
    """Return what a run is in a few words each, with a mark where that is not the paper's.

    Args:
        evidence: the run.
        differing: the fields that are not the paper's, as `extraction: FIELD` and `training: FIELD`.
    """
    facts, recipe = evidence.facts, evidence.recipe
    extraction, made = facts.get("extraction", {}), facts.get("made_by", {})
    image, audio, dataset = extraction.get("image", {}), extraction.get("audio", {}), facts["store"]["dataset"]
    rate = extraction.get("image_rate", "?")
    model = recipe.model

    def fact(name: str, shown: str, *fields: str) -> Fact:
        return Fact(name, shown, any(key.startswith(fields) for key in differing) if fields else False)

    return [
        fact("data set", f"{evidence.dataset} ({dataset.get('layout', '?')}, {dataset.get('faces', '?')})"),
        fact("store", str(facts["store"]["path"])),
        fact("image encoder", f"{image.get('model', '?')}, {image.get('weights', '?')}", "extraction: image."),
        fact("frames encoded", str(rate) if rate == "all" else f"{rate} a second", "extraction: image_rate"),
        fact("audio encoder", f"{audio.get('model', '?')}, every {audio.get('hop', '?')} s", "extraction: audio."),
        fact(
            "window",
            f"{recipe.window.seconds:g} s, every {recipe.window.stride:g} s, {recipe.window.frames} frames",
            "training: window.",
        ),
        fact("modalities", " and ".join(model.modalities), "training: model.modalities"),
        fact("over time", model.temporal.kind.upper(), "training: model.temporal."),
        fact("fusion", model.fusion.kind, "training: model.fusion."),
        fact(
            "prompts",
            f"{model.prompt.semantic}, lambda {recipe.loss.kl:g}, sigma {recipe.regions.sigma:g}",
            *("training: model.prompt.", "training: loss.", "training: regions."),
        ),
        fact(
            "learning",
            f"rate {recipe.optimiser.learning_rate:g}, batches of {recipe.batch}",
            *("training: optimiser.", "training: batch"),
        ),
        fact(
            "epochs",
            f"{facts.get('epochs', '?')} of {recipe.epochs}, best {facts.get('best_epoch', '?')}",
            *("training: epochs", "training: patience"),
        ),
        fact("seed", str(recipe.seed)),
        fact(
            "made by",
            f"vaprompt {made.get('vaprompt', '?')}, torch {made.get('torch', '?')}, {made.get('device', '?')}",
        ),
    ]


@dataclass(frozen=True)
class ScoreRow:
    """One row of the table of scores."""

    frames: str
    """Which frames are scored."""
    who: str
    scores: Mapping[str, Any]
    interval: Mapping[str, Any] | None = None
    main: bool = False
    quiet: bool = False


def score_rows(evidence: Evidence) -> list[ScoreRow]:
    """Return the scores of a run on both sets of frames, with ridge regression's and the paper's beside them."""
    result = evidence.evaluation.result
    rows = []
    for protocol, frames in (("official", "every valid frame"), ("paper_subset", "the paper's frames")):
        rows.append(ScoreRow(frames, "this run", result[protocol], result["interval"][protocol], main=True))
        if evidence.tuned:
            chosen = result["smoothing"]
            who = f"this run, smoothed ({_filter(chosen)})"
            rows.append(ScoreRow(frames, who, chosen[protocol], chosen["interval"][protocol]))
        rows.append(ScoreRow(frames, "ridge regression", result["ridge"][protocol], quiet=True))
        if protocol == "paper_subset":
            paper = {"valence": HEADLINE.valence, "arousal": HEADLINE.arousal, "mean": HEADLINE.mean, "frames": None}
            rows.append(ScoreRow(frames, "the paper, on Aff-Wild2's validation set", paper, quiet=True))
    return rows


def regions_table(evidence: Evidence, study: Study) -> dict[str, Any] | None:
    """Return how regions are mixed up: for each region of the truth, the mean probability that each region was given.

    Each moment counts for a row as much as its soft target belongs to that row's region.
    """
    known = [one for one in study.explained.values() if len(one.region_WK)]
    if not known:
        return None
    soft_WK, region_WK = (
        np.concatenate([getattr(one, name) for one in known]).astype(np.float64) for name in ("soft_WK", "region_WK")
    )
    valid_W = ~np.isnan(soft_WK[:, 0])
    soft_WK, region_WK = soft_WK[valid_W], region_WK[valid_W]
    if not len(soft_WK):
        return None
    weight_K = soft_WK.sum(axis=0)
    mixed_KK = soft_WK.T @ region_WK / np.maximum(weight_K, 1e-12)[:, None]
    own_KK = soft_WK.T @ soft_WK / np.maximum(weight_K, 1e-12)[:, None]
    centres = evidence.recipe.regions.centres_K2()
    return {
        "phrases": list(evidence.recipe.regions.phrases),
        "centres": [(float(valence), float(arousal)) for valence, arousal in centres],
        "mixed": mixed_KK.tolist(),
        "target": own_KK.tolist(),
        "true_share": (weight_K / len(soft_WK)).tolist(),
        "predicted_share": region_WK.mean(axis=0).tolist(),
        "windows": len(soft_WK),
        "highest": float(mixed_KK.max()),
    }


def _overview(evidence: Evidence, study: Study) -> dict[str, Any]:
    result = evidence.evaluation.result
    videos = []
    for index, video in enumerate(evidence.ranked):
        scores = result["videos"].get(video.name, {})
        videos.append(
            {
                "name": video.name,
                "block": f"video-{index}",
                "frames": len(video.time_F),
                "seconds": float(video.time_F[-1]),
                "scores": {key: scores.get(key) for key in ("valence", "arousal", "mean", "rmse")},
                "spark": _spark(video),
            }
        )
    pooled = [np.concatenate(parts) for parts in list(zip(*evidence.scored, strict=True))[1:]]
    found = densities(pooled[0], pooled[1])
    regions = evidence.recipe.regions
    return {
        "videos": videos,
        "smoothing": str(evidence.smoothing),
        "window": evidence.recipe.window.seconds,
        "audioWindow": study.audio_window,
        "phrases": list(regions.phrases),
        "centres": regions.centres_K2().tolist(),
        "plane": {
            "bins": len(found.truth_BB),
            "reach": found.reach,
            "truth": packing.counts(found.truth_BB),
            "prediction": packing.counts(found.prediction_BB),
            "error": packing.counts(found.error_BB),
            "arrows": found.arrows,
        },
        "curves": _curves(evidence),
    }


def _curves(evidence: Evidence) -> dict[str, Any]:
    """Return the training's course; a score that was undefined is null."""
    history = evidence.history
    stopping = evidence.stopping
    return {
        "epoch": [line["epoch"] for line in history],
        "stopping": stopping,
        "best": evidence.facts.get("best_epoch"),
        "train": {name: [line.get("train", {}).get(name) for line in history] for name in ("loss", "ccc", "kl")},
        "score": {
            name: [line.get(stopping, {}).get(name) for line in history] for name in ("valence", "arousal", "mean")
        },
    }


def _spark(video: Judged) -> dict[str, Any]:
    """Return least and greatest values of truth and prediction for each pixel of a small trace."""
    found = {}
    truth_F2 = np.where(video.valid_F[:, None], video.truth_F2, np.nan)
    for axis, dimension in enumerate(("valence", "arousal")):
        for name, value_F2 in (("truth", truth_F2), ("predicted", video.prediction_F2)):
            low, high = packing.extremes(value_F2[:, axis].astype(np.float64), min(SPARK, len(value_F2)))
            found[f"{dimension}_{name}"] = packing.series(np.stack((low, high), axis=1).ravel())
    return found


def _video(evidence: Evidence, study: Study, video: Judged) -> dict[str, Any]:
    truth_F2 = np.where(video.valid_F[:, None], video.truth_F2, np.nan)
    smooth_F2 = evidence.smooth[video.name].prediction_F2
    arrays = {"time": packing.times(video.time_F)}
    for axis, dimension in enumerate(("valence", "arousal")):
        arrays[f"{dimension}_truth"] = packing.series(truth_F2[:, axis])
        arrays[f"{dimension}_predicted"] = packing.series(video.prediction_F2[:, axis])
        arrays[f"{dimension}_smoothed"] = packing.series(smooth_F2[:, axis])
    explained, loudness = study.explained.get(video.name), study.heard.loudness.get(video.name)
    seen_F = None if explained is None else explained.seen_F
    return {
        "arrays": arrays,
        "invalid": packing.spans(~video.valid_F),
        "faceless": None if seen_F is None or len(seen_F) != len(video.time_F) else packing.spans(~seen_F),
        "windows": None if explained is None else _windows(explained, evidence.recipe.window.seconds),
        "sound": None if loudness is None else packed_sound(loudness),
        "silence": study.heard.missing.get(video.name),
    }


def _windows(explained: Explained, seconds: float) -> dict[str, Any]:
    arrays = {
        "end": packing.times(explained.end_W),
        "regions": packing.series(explained.region_WK.ravel()),
        "target": packing.series(explained.soft_WK.ravel()),
        # How long before the window's end each image step was.
        "age": packing.shares(explained.end_W[:, None] - explained.image_WT, max(seconds, 1e-6)),
        "audio_age": packing.shares(explained.end_W - explained.audio_end_W, max(seconds, 1e-6)),
    }
    shape: list[int] | None = None
    if explained.gate_W is not None:
        arrays["gate"] = packing.shares(explained.gate_W)
    if explained.attention_WTS is not None:
        shape = list(explained.attention_WTS.shape[1:])
        arrays["attention"] = packing.shares(explained.attention_WTS, float(explained.attention_WTS.max()) or 1.0)
    return {"arrays": arrays, "steps": shape}


def _filter(smoothing: dict[str, Any]) -> str:
    return "no filter" if smoothing["kind"] == "none" else f"{smoothing['kind']} of {smoothing['seconds']:g} s"
