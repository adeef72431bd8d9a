"""A run on disk: the recipe, what it was made from, its weights; and how it is opened and asked for predictions.

Axes: F frames of a video, N image embeddings, A cached audio windows, S audio steps, I and C channels, W windows,
B windows at once, U sounds that they hear, K regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64

from vaprompt.errors import RunError
from vaprompt.files import parsed_json, text_of
from vaprompt.lanes import lanes
from vaprompt.model.estimator import Estimate, Estimator
from vaprompt.model.prompts import Context
from vaprompt.recipes import read_recipe
from vaprompt.training.checkpoint import load_weights, put_weights
from vaprompt.training.loop import ACCELERATOR_BATCH, EVALUATION_BATCH, EVALUATION_SOUNDS, end_values
from vaprompt.training.recipe import TrainRecipe
from vaprompt.windows import cut_windows, grid_ends, interpolate

RECIPE = "recipe.toml"
FACTS = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
STATE = "resume.safetensors"
PRUNED = "pruned"
"""The status of a run that a search has stopped early."""
STOPPING_FOLD = "stopping"
"""What the fold is called that decides when a training stops: it is not the official validation split."""
FORMAT = 1
ENCODERS = "encoders"
"""The folder of a fine-tuned run's own encoders, `image` and `audio`."""
OWN = "run:"
"""In front of the name of one of them, where the run's extraction recipe names weights: wherever the run lies."""


@dataclass(frozen=True)
class WindowEstimates:
    """What a run says of windows, row by row."""

    value_W2: Float32[np.ndarray, "W 2"]
    """Valence and arousal at each window's end, in [-1, 1]."""
    region_WK: Float32[np.ndarray, "W K"]
    """Probability of each region."""
    gate_W: Float32[np.ndarray, "W"] | None
    """Mean of the gate over steps and channels: 0 lets only the picture through, 1 only the attended sound. None
    without a gate."""

    def rows(self, row_V: Int64[np.ndarray, "V"]) -> WindowEstimates:
        """Return the windows of these rows, in this order."""
        gate_V = None if self.gate_W is None else self.gate_W[row_V]
        return WindowEstimates(self.value_W2[row_V], self.region_WK[row_V], gate_V)


def joined(parts: Sequence[WindowEstimates]) -> WindowEstimates:
    """Return the windows of several estimates of one run, at least one, in their order."""
    gates = [part.gate_W for part in parts if part.gate_W is not None]
    return WindowEstimates(
        np.concatenate([part.value_W2 for part in parts]),
        np.concatenate([part.region_WK for part in parts]),
        np.concatenate(gates) if gates else None,
    )


@dataclass(frozen=True)
class Run:
    """A trained run, ready to predict."""

    path: Path
    recipe: TrainRecipe
    facts: dict[str, Any]
    """The content of run.json: status, store, fingerprints, extraction recipe, data set, versions, scores."""
    estimator: Estimator
    device: str

    def predict(
        self,
        image_embedding_NI: Float[np.ndarray, "N I"] | None,
        image_time_N: Float64[np.ndarray, "N"],
        audio_embedding_ASC: Float[np.ndarray, "A S C"] | None,
        audio_end_A: Float64[np.ndarray, "A"],
        time_F: Float64[np.ndarray, "F"],
    ) -> Float32[np.ndarray, "F 2"]:
        """Return valence and arousal in [-1, 1] for every frame of one video.

        Windows end at every stride of the run's recipe, at the first and at the last frame; frames between are
        interpolated linearly in time.

        Args:
            image_embedding_NI: image embeddings, in frame order, at least one; may be None where the recipe leaves
                pictures out.
            image_time_N: their times in seconds from the video's first frame.
            audio_embedding_ASC: cached audio windows; may be None where the recipe leaves sound out.
            audio_end_A: when each ends, in seconds; the first at or before 0.
            time_F: every frame's time in seconds, ascending from 0.

        Raises:
            RunError: the embeddings' channels are not those that the run was trained on.
        """
        window = self.recipe.window
        end_W = grid_ends(float(time_F[-1]), seconds=window.seconds, stride=window.stride, padded=True)
        arrays = (image_embedding_NI, image_time_N, audio_embedding_ASC, audio_end_A, time_F)
        return interpolate(end_W, self.predict_at(end_W, *arrays), time_F)

    def predict_at(
        self,
        end_W: Float64[np.ndarray, "W"],
        image_embedding_NI: Float[np.ndarray, "N I"] | None,
        image_time_N: Float64[np.ndarray, "N"],
        audio_embedding_ASC: Float[np.ndarray, "A S C"] | None,
        audio_end_A: Float64[np.ndarray, "A"],
        time_F: Float64[np.ndarray, "F"],
    ) -> Float32[np.ndarray, "W 2"]:
        """Return valence and arousal in [-1, 1] at the ends of windows, in seconds; else as `predict`.

        Where windows end closer together than sounds, each sound goes through its network once.
        """
        windows = cut_windows(
            end_W,
            time_F=time_F,
            image_time_N=image_time_N,
            audio_end_A=audio_end_A,
            seconds=self.recipe.window.seconds,
            frames=self.recipe.window.frames,
        )
        together = np.argsort(windows.audio_W, kind="stable")

        def predict(row_B: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B 2"]:
            image_BTI = None if image_embedding_NI is None else image_embedding_NI[windows.image_WT[row_B]]
            sound_U, clip_B = np.unique(windows.audio_W[row_B], return_inverse=True)
            audio_USC = None if audio_embedding_ASC is None else audio_embedding_ASC[sound_U]
            clips = clip_B.astype(np.int64) if len(sound_U) < len(row_B) else None
            return self.predict_windows(image_BTI, audio_USC, clips)

        on_processor = self.device == "cpu"
        batches = (
            batches_of(together, windows.audio_W, EVALUATION_BATCH, EVALUATION_SOUNDS)
            if on_processor
            else batches_of(together, windows.audio_W, ACCELERATOR_BATCH, ACCELERATOR_BATCH)
        )
        parts = lanes().map(predict, batches) if on_processor else [predict(batch) for batch in batches]
        value_W2 = np.empty((len(end_W), 2), np.float32)
        value_W2[together] = np.concatenate(parts)
        return value_W2

    @torch.inference_mode()
    def predict_windows(
        self,
        image_BTI: Float[np.ndarray, "B T I"] | None,
        audio_USC: Float[np.ndarray, "U S C"] | None,
        clip_B: Int64[np.ndarray, "B"] | None = None,
    ) -> Float32[np.ndarray, "B 2"]:
        """Return valence and arousal in [-1, 1] at the end of each window of embeddings.

        Args:
            image_BTI: the windows' pictures; not looked at where the run's recipe leaves them out.
            audio_USC: their sounds; likewise.
            clip_B: which of the sounds each window hears; None: each its own.

        Raises:
            RunError: the embeddings' channels are not those that the run was trained on.
        """
        return end_values(self._estimate(image_BTI, audio_USC, clip_B)).float().cpu().numpy()

    @torch.inference_mode()
    def estimate_windows(
        self,
        image_BTI: Float[np.ndarray, "B T I"] | None,
        audio_USC: Float[np.ndarray, "U S C"] | None,
        clip_B: Int64[np.ndarray, "B"] | None = None,
    ) -> WindowEstimates:
        """Return values, regions and gate of each window of embeddings; else as `predict_windows`."""
        estimate = self._estimate(image_BTI, audio_USC, clip_B)
        gate_BTD = estimate.gate_BTD
        return WindowEstimates(
            end_values(estimate).float().cpu().numpy(),
            estimate.region_BK.float().softmax(dim=1).cpu().numpy(),
            None if gate_BTD is None else gate_BTD.float().mean(dim=(1, 2)).cpu().numpy(),
        )

    def _estimate(
        self,
        image_BTI: Float[np.ndarray, "B T I"] | None,
        audio_USC: Float[np.ndarray, "U S C"] | None,
        clip_B: Int64[np.ndarray, "B"] | None,
    ) -> Estimate:
        given = {"image": image_BTI, "audio": audio_USC}
        inputs = {name: given[name] if name in self.recipe.model.modalities else None for name in given}
        found = {name: array.shape[-1] for name, array in inputs.items() if array is not None}
        if found != self.facts["dims"]:
            raise RunError(
                self.path,
                fault=f"was trained on embeddings of {self.facts['dims']} channels and is given {found}",
                remedy="use the store or the encoders that the run was trained with",
            )
        image, audio, clips = (
            None if array is None else torch.from_numpy(array).to(self.device)
            for array in (inputs["image"], inputs["audio"], clip_B)
        )
        estimate: Estimate = self.estimator(
            None if image is None else image.float(), None if audio is None else audio.float(), clips
        )
        return estimate


def batches_of(
    row_W: Int64[np.ndarray, "W"], sound_W: Int64[np.ndarray, "W"], most: int, sounds: int
) -> list[Int64[np.ndarray, "_"]]:
    """Return windows in batches of at most so many windows, and of at most so many sounds.

    A sound takes most of a window's work. Few in a batch keep memory small; windows that share one belong together.

    Args:
        row_W: the windows, those that hear the same sound behind each other; at least one.
        sound_W: the sound that each of all windows hears.
        most: windows in a batch.
        sounds: of them.
    """
    place_W = np.cumsum(np.diff(sound_W[row_W], prepend=sound_W[row_W[:1]]) != 0)
    count = int(place_W[-1]) + 1
    parts = -(-count // sounds)
    alike = np.split(row_W, np.flatnonzero(np.diff(place_W * parts // count)) + 1)
    return [part[first : first + most] for part in alike for first in range(0, len(part), most)]


def load_run(path: Path | str, device: str = "cpu") -> Run:
    """Return the run in a folder, its best weights loaded and dropout off.

    Raises:
        RunError: the folder is no run, is not finished, or its checkpoint is missing or does not fit.
    """
    path = Path(path)
    facts = read_complete(path)
    recipe = read_recipe(TrainRecipe, path / RECIPE)
    tensors, _ = load_weights(path / CHECKPOINT)
    context_MD = tensors.get("regions.context_MD")
    learned = recipe.model.prompt.words == "learned_context"
    if "regions.prototype_KE" not in tensors or learned != (context_MD is not None):
        raise RunError(
            path / CHECKPOINT, fault="does not hold the region prompts of the recipe", remedy="train the run again"
        )
    estimator = Estimator(
        recipe.model,
        image_dim=facts["dims"].get("image", 0),
        audio_dim=facts["dims"].get("audio", 0),
        prototype_KE=tensors["regions.prototype_KE"],
        context=None if context_MD is None else Context(context_MD, None),
        centre_K2=torch.from_numpy(recipe.regions.centres_K2()).float(),
    )
    put_weights(path / CHECKPOINT, estimator, tensors)
    return Run(path, recipe, facts, estimator.to(device).eval(), device)


UNFINISHED = "the command that began it goes on with it; a search leaves what it has stopped early as it is"


def read_complete(path: Path) -> dict[str, Any]:
    """Return run.json of a run that is finished.

    Raises:
        RunError: it is not, or its run.json is missing, damaged, or of another format.
    """
    facts = read_facts(path)
    if facts["status"] == PRUNED:
        raise RunError(path, fault="was stopped early by its search", remedy="name a run that is finished")
    if facts["status"] != "complete":
        raise RunError(path, fault="is not finished", remedy=UNFINISHED)
    return facts


def is_complete(path: Path) -> bool:
    """Say whether a folder holds a run that is finished; nothing there, or an empty folder, is none.

    Raises:
        RunError: its run.json is damaged, or of another format.
    """
    return (path / FACTS).exists() and read_facts(path)["status"] == "complete"


_NEEDED: dict[str, type] = {
    "status": str,
    "recipe": dict,
    "store": dict,
    "store.path": str,
    "store.fingerprints": dict,
    "store.dataset": dict,
}
_NEEDED_OF_A_WHOLE_ONE: dict[str, type] = {"epochs": int, "best_epoch": int, "best": dict}
"""What every run.json has, and of which type."""
_SINCE: dict[str, type] = {"store.sources": dict}
"""The same for what those of earlier versions lack."""


def read_facts(path: Path) -> dict[str, Any]:
    """Return run.json.

    Raises:
        RunError: it is missing, damaged, or of another format.
    """
    remedy = "give the folder that 'vaprompt train' wrote with --run"
    try:
        facts = parsed_json(text_of(path / FACTS))
    except FileNotFoundError:
        if not path.exists():
            raise RunError(path, fault="is not a run: there is no such folder", remedy=remedy) from None
        below = sorted(facts.parent for facts in path.glob(f"*/{FACTS}"))
        remedy = f"name one of the runs in it, such as {below[0]}" if below else remedy
        raise RunError(path, fault=f"is not a run: it has no {FACTS}", remedy=remedy) from None
    except (OSError, ValueError) as error:
        raise RunError(path / FACTS, fault=f"cannot be read ({error})", remedy=remedy) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else None
        raise RunError(path / FACTS, fault=f"has format {found}, not {FORMAT}", remedy="use the version that wrote it")
    needed = _NEEDED | (_NEEDED_OF_A_WHOLE_ONE if facts.get("status") == "complete" else {})
    for key, kind in (needed | _SINCE).items():
        value: Any = facts
        for part in key.split("."):
            value = value.get(part)
        if not isinstance(value, kind) and not (key in _SINCE and value is None):
            remedy = "restore it, or train again into a new folder"
            raise RunError(path / FACTS, fault=f"lacks '{key}', or has one that cannot be", remedy=remedy)
    return facts | {"extraction": _placed(path, facts.get("extraction"))}


def _placed(path: Path, extraction: Any) -> Any:
    """Return an extraction recipe in which the run's own encoders are named by where they lie now."""
    if not isinstance(extraction, dict):
        return extraction
    placed = dict(extraction)
    for stream in ("image", "audio"):
        recipe = placed.get(stream)
        if isinstance(recipe, dict) and recipe.get("weights") == f"{OWN}{stream}":
            placed[stream] = recipe | {"weights": str((path / ENCODERS / stream).absolute())}
    return placed
