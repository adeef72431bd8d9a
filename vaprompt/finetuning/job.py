"""One fine-tuning at work: what it needs of raw media and networks, its epochs, and what its run holds in the end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaprompt.datasets.base import Dataset
from vaprompt.encoders.tower import DTYPES
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.extraction.fingerprints import dataset_fingerprints
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.files import published, write_json
from vaprompt.finetuning.material import Material, files_of
from vaprompt.finetuning.parity import cached_predictions, largest_difference, remark
from vaprompt.finetuning.provenance import NO_GAIN, facts_of_encoders, own_streams, save_encoders
from vaprompt.finetuning.recipe import FinetuneRecipe
from vaprompt.finetuning.requests import Fit, Setup, Sound
from vaprompt.finetuning.session import Interval, Part, Session
from vaprompt.finetuning.splits import raw_split
from vaprompt.finetuning.state import Learners, TuningState, load_state, put_best, save_best, save_state
from vaprompt.finetuning.step import RawEncoders
from vaprompt.finetuning.tuning import choose, save_memory, tuned_tensors
from vaprompt.metrics import scores
from vaprompt.progress import Progress
from vaprompt.recipes import validated
from vaprompt.store import FeatureStore
from vaprompt.store.fingerprint import require_equal
from vaprompt.training.checkpoint import clear_best, require_best, save_weights
from vaprompt.training.ongoing import tidy
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import CHECKPOINT, FACTS, METRICS, STATE, Run


@dataclass(frozen=True)
class Job:
    """One fine-tuning: where it starts from, and what is asked for."""

    parent: Run
    store: FeatureStore
    dataset: Dataset
    data: Path
    recipe: FinetuneRecipe
    heads: TrainRecipe
    new: Path
    device: torch.device
    save_seconds: float
    progress: Progress

    @property
    def stopping(self) -> str:
        """The split whose score says when to stop."""
        return next(str(split) for split in self.parent.facts["videos"] if split != "train")

    @property
    def extraction(self) -> ExtractRecipe:
        """What the store of the run that it starts from was made with."""
        return validated(ExtractRecipe, self.parent.facts["extraction"], where=str(self.parent.path))

    def material(self, scratch: Path) -> tuple[Material, dict[str, Part]]:
        """Return the raw media of both splits, and where each split begins in it."""
        for kind, fingerprint in self.parent.facts["store"]["fingerprints"].items():
            self.store.require(kind, fingerprint)
        names: dict[str, list[str]] = self.parent.facts["videos"]
        asked = [name for split in ("train", self.stopping) for name in names[split]]
        videos = {video.name: video for video in files_of(self.store, self.dataset, asked, self.data)}
        made_now = dataset_fingerprints(self.extraction, self.dataset)
        for kind, fingerprint in self.parent.facts["store"]["fingerprints"].items():
            remedy = "bring the weights, and the detector, that the run's store was made with"
            require_equal(fingerprint, made_now[kind], where=f"{self.parent.path} ({kind} encoder)", remedy=remedy)
        parts, windows, first = [], {}, 0
        for split in ("train", self.stopping):
            found = raw_split(self.store, [videos[name] for name in names[split]], split, self.heads, self.device)
            windows[split] = Part(found.windows, first)
            parts += found.parts
            first += len(found.windows)
        return Material(self._setup(scratch, made_now), self.dataset, parts), windows

    def networks(self) -> tuple[RawEncoders, Learners]:
        """Return the encoders on the device, and all that learns."""
        used = self.heads.model.modalities
        with self.progress.task("loading the encoders", total=len(used), unit="encoders") as task:
            image = TrainableImage(self.extraction.image) if "image" in used else None
            task.advance(image is not None)
            audio = TrainableAudio(self.extraction.audio) if "audio" in used else None
            task.advance(audio is not None)
        learning: dict[str, Mapping[str, torch.nn.Parameter]] = {}
        for stream, encoder in (("image", image), ("audio", audio)):
            if encoder is not None:
                learning[stream] = choose(encoder, getattr(self.recipe, stream), stream)
                if self.recipe.checkpointing:
                    save_memory(encoder)
        dtype = precision_of(self.recipe.precision, self.device)
        encoders = RawEncoders(image, audio, learning, dtype).to(self.device)
        tuned = dict(tuned_tensors(learning))
        settings = self.recipe.optimiser
        groups = [{"params": list(self.parent.estimator.parameters()), "lr": settings.learning_rate}]
        if tuned:
            groups.append({"params": list(tuned.values()), "lr": settings.encoder_learning_rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
        scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        return encoders, Learners(self.parent.estimator, tuned, optimizer, scaler)

    def train(self, session: Session, parts: Mapping[str, Part]) -> TuningState:
        """Train until the last epoch or until patience ends."""
        recipe, path = self.recipe, self.new / STATE
        state = load_state(path, session.learners) if path.exists() else TuningState()
        if state.best_epoch:
            require_best(path, state.best_epoch)
        unseen = parts[self.stopping]
        save, told = Interval(self.save_seconds), time.monotonic()

        def count() -> None:
            nonlocal told
            before, told = told, time.monotonic()
            state.seconds += told - before

        def saved(now: TuningState) -> None:
            if save.passed():
                count()
                save_state(path, now, session.learners)

        if state.start is None:
            state.start = self._start(session, unseen)
        while state.epoch < recipe.epochs and state.epoch - state.best_epoch < recipe.patience:
            epoch = state.epoch + 1
            with self.progress.task(f"epoch {epoch}", len(parts["train"].windows), "windows") as task:
                losses = session.train_epoch(state, parts["train"], task, saved)
            with self.progress.task(f"scoring {self.stopping}", len(unseen.windows), "windows") as task:
                found = session.validate(unseen, task)
            count()
            self._close(session, state, {"epoch": epoch, "train": losses, self.stopping: found})
            self.progress.say(f"epoch {epoch}: loss {losses['loss']:.3f}, {self.stopping} CCC {_shown(found['mean'])}")
        return state

    def _start(self, session: Session, unseen: Part) -> dict[str, Any]:
        """Return the scores before the first step, and by how much predictions differ from those from the store."""
        with self.progress.task(f"scoring {self.stopping} first", len(unseen.windows), "windows") as task:
            value_W2 = session.predictions(unseen, task)
        cached_W2 = cached_predictions(self.parent, self.store, self.parent.facts["videos"][self.stopping])
        difference = largest_difference(value_W2, cached_W2)
        found = scores(value_W2, unseen.windows.value_W2.cpu().numpy())
        self.progress.say(
            f"before the first step: {self.stopping} CCC {_shown(found['mean'])}; predictions differ from those from "
            f"the store by {difference:.1e} at most"
        )
        return {**found, "largest_difference": difference}

    def _close(self, session: Session, state: TuningState, line: dict[str, Any]) -> None:
        """Take an epoch into the state, and save it: the best weights first, and the former best are deleted last."""
        mean = line[self.stopping]["mean"]
        state.epoch, state.step, state.sums = line["epoch"], 0, [0.0, 0.0, 0.0]
        state.history.append(line)
        gains = mean is not None and (state.best_mean is None or mean > state.best_mean + self.recipe.min_gain)
        if gains or state.best_epoch == 0:
            state.best_epoch, state.best_mean = state.epoch, mean
            save_best(self.new, state.epoch, session.learners)
        text = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in state.history)
        with published(self.new / METRICS) as aside:
            aside.write_text(text, encoding="utf-8")
        save_state(self.new / STATE, state, session.learners)
        clear_best(self.new, keep={state.best_epoch})

    def finish(
        self, facts: dict[str, Any], state: TuningState, session: Session, parts: Mapping[str, Part]
    ) -> dict[str, Any]:
        """Write the best epoch's weights where every run has them, and say what they are."""
        put_best(self.new, state.best_epoch, session.learners)
        save_weights(self.new / CHECKPOINT, session.estimator.state_dict())
        streams = own_streams(self.parent, session.encoders)
        save_encoders(self.new, session.encoders, streams)
        made = facts_of_encoders(self.new, facts["extraction"], self.dataset, session.encoders, self.recipe, streams)
        start, best = state.start or {}, state.history[state.best_epoch - 1][self.stopping]
        notes = [*facts["notes"], remark(self.stopping, start.get("largest_difference", 0.0))]
        if best["mean"] is not None and start.get("mean") is not None and best["mean"] <= start["mean"]:
            notes.append(NO_GAIN)
        facts = facts | {
            "status": "complete",
            "store": facts["store"] | {"fingerprints": made["fingerprints"]},
            "extraction": made["extraction"],
            "encoders": made["encoders"],
            "windows": {split: len(part.windows) for split, part in parts.items()},
            "notes": [note for note in notes if note is not None],
            "epochs": state.epoch,
            "seconds": round(state.seconds, 3),
            "best_epoch": state.best_epoch,
            "best": {axis: best[axis] for axis in ("valence", "arousal", "mean")},
            "start": start,
        }
        write_json(self.new / FACTS, facts)
        tidy(self.new)
        return facts

    def _setup(self, scratch: Path, fingerprints: Mapping[str, Mapping[str, Any]]) -> Setup:
        fit, sound = None, None
        if "image" in self.heads.model.modalities:
            fit = Fit(**{key: fingerprints["image"][key] for key in Fit.model_fields})
        if "audio" in self.heads.model.modalities:
            sound = Sound(window=fingerprints["audio"]["window"], mel=fingerprints["audio"]["log_mel"])
        return Setup(
            scratch=scratch.absolute(),
            faces=self.dataset.faces,
            face=self.extraction.face,
            fit=fit,
            sound=sound,
            augmentation=self.recipe.augmentation,
        )


def precision_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format that a recipe's `precision` means on a device."""
    if precision != "auto":
        return DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _shown(mean: float | None) -> str:
    return "undefined" if mean is None else f"{mean:.3f}"
