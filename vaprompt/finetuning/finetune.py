"""Fine-tuning, from a run on cached features to a run with encoders of its own, killed and gone on with at will.

The new run's folder holds what every run's does, and besides: finetune.toml (the resolved recipe), `encoders/` (tuned
weights, as folders that an extraction recipe can name) and, until it is complete, resume.safetensors, the best epoch's
weights so far, and `scratch/`, what was decoded of the raw media.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaprompt.datasets.base import Dataset
from vaprompt.datasets.description import open_dataset
from vaprompt.devices import emulation, pick_device
from vaprompt.encoders.tower import DTYPES
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.errors import RunError
from vaprompt.extraction.fingerprints import dataset_fingerprints
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.files import PARTIAL, clear_left_behind, held, make_folder, published, write_json
from vaprompt.finetuning.material import Material, files_of
from vaprompt.finetuning.parity import cached_predictions, largest_difference, remark
from vaprompt.finetuning.provenance import (
    NO_GAIN,
    facts_at_start,
    facts_of_encoders,
    own_streams,
    require_same,
    save_encoders,
)
from vaprompt.finetuning.recipe import FinetuneRecipe, heads_recipe, stream_of
from vaprompt.finetuning.requests import Fit, Setup, Sound
from vaprompt.finetuning.session import Interval, Part, Session
from vaprompt.finetuning.splits import raw_split
from vaprompt.finetuning.state import Learners, TuningState, load_state, put_best, save_best, save_state
from vaprompt.finetuning.step import RawEncoders
from vaprompt.finetuning.tuning import choose, save_memory, tuned_tensors
from vaprompt.finetuning.workers import Workers
from vaprompt.memory import enough_memory
from vaprompt.metrics import scores
from vaprompt.progress import SILENT, Progress
from vaprompt.recipes import validated, write_recipe
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.store.fingerprint import require_equal
from vaprompt.training.checkpoint import clear_best, require_best, save_weights
from vaprompt.training.ongoing import tidy
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import TrainResult, standing
from vaprompt.training.runs import CHECKPOINT, FACTS, METRICS, RECIPE, STATE, Run, load_run

FINETUNE = "finetune.toml"
SCRATCH = "scratch"
SAVE_SECONDS = 600.0
"""Time between two saved states within an epoch, and so what a kill costs at most: writing one takes seconds."""
MOST_WORKERS = 16
SMALLER = "lower at_once or batch, turn checkpointing on, or train less of the encoders (image.tune = last)"


@dataclass(frozen=True)
class FinetuneResult(TrainResult):
    """How a fine-tuning ended."""

    start: Mapping[str, Any]
    """Validation scores before the first step, from raw media, and `largest_difference` of predictions from those that
    the run made from its store."""
    stream: str | None
    """The name under which features from the tuned encoders are to be extracted; the run's that it started from, if it
    has one, where none is tuned."""


def finetune(
    run: Path,
    data: Path,
    recipe: FinetuneRecipe,
    new: Path,
    *,
    store: Path | str | None = None,
    stream: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    scratch: Path | None = None,
    resume: bool = False,
    save_seconds: float = SAVE_SECONDS,
    progress: Progress = SILENT,
) -> FinetuneResult:
    """Train a run's heads and encoders together on raw media, and leave the best epoch's weights in `new`.

    A killed fine-tuning goes on when the same is asked for again; on the processor it ends with the bytes of an
    undisturbed one. A complete one is left as it is.

    Args:
        run: folder of the complete run to start from.
        data: the data set that the run's store was made of: its folder or its description.
        recipe: what is trained, and how.
        new: folder of the new run; created.
        store: the run's store, where it is not at the place that the run knows; for frames' times and labels.
        stream: the name under which features from the tuned encoders will be extracted; by default the new folder's.
            Not where none is tuned.
        device: `auto`, `cpu`, `cuda`, ...
        workers: loading processes; by default one on the processor, else as many as cores are left, 16 at most.
        scratch: folder for decoded media, kept and shared by trainings; by default one in `new`, deleted in the end.
        resume: insist that there is something to go on with.
        save_seconds: time between two saved states within an epoch.
        progress: who is told how far it is.

    Raises:
        RunError: the run cannot be loaded, `new` holds something else, the loss is no longer a number, or the memory
            does not suffice.
        RecipeError: the recipe asks for what the encoders do not have.
        OptionError: `stream` is given, and no encoder is tuned.
        WeightsError: the encoders' weights are not at hand.
        FingerprintError: data set, store or encoders are not those of the run.
        DatasetError: media that the run needs are missing.
        MediaError: media cannot be read.
        TargetError: `new` or the scratch folder cannot be written.
    """
    started = time.perf_counter()
    device = pick_device(device)
    # Settles how sums are split, as scoring does before a first epoch: a training that goes on scores nothing first.
    torch.set_num_threads(torch.get_num_threads())
    with enough_memory(new, remedy=SMALLER):
        parent = load_run(run, device)
        if new.resolve() == run.resolve():
            raise RunError(new, fault="is the run to start from", remedy="name a new folder with --run")
        source = open_store(store or str(parent.facts["store"]["path"]), progress, parent.recipe.stream)
        dataset = open_dataset(data, progress)
        heads = heads_recipe(parent.recipe, recipe, stream_of(parent.recipe, recipe, new, stream))
        facts = facts_at_start(parent, source, recipe, heads, device)
        before = standing(new, facts, resume=resume, same=require_same)
        if before is not None:
            return _done_before(new, before, started)
        if warning := emulation(recipe.precision, device):
            progress.say(f"precision: {warning}")
        # Whatever can be refused is refused before anything is written.
        job = _Job(parent, source, dataset, data, recipe, heads, new, torch.device(device), save_seconds, progress)
        place = scratch or new / SCRATCH
        material, parts = job.material(place)
        encoders, learners = job.networks()
        devices = [torch.device(device)] if device.startswith("cuda") else []
        with held(new), torch.random.fork_rng(devices=devices):
            # Another process may have ended it while this one looked at the media.
            before = standing(new, facts, same=require_same)
            if before is not None:
                return _done_before(new, before, started)
            write_json(new / FACTS, facts)
            for name, shown in ((RECIPE, heads), (FINETUNE, recipe)):
                with published(new / name) as aside:
                    write_recipe(shown, aside)
            with _scratch(place, own=scratch is None), Workers(material.setup, _count(workers, device)) as processes:
                _prepare(material, processes, progress)
                session = Session(
                    new, recipe, heads, encoders, parent.estimator, learners, material, processes, torch.device(device)
                )
                state = job.train(session, parts)
                facts = job.finish(facts, state, session, parts)
    return _result(new, facts, started, trained=True)


@dataclass(frozen=True)
class _Job:
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


def _count(workers: int | None, device: str) -> int:
    if workers is not None:
        return workers
    # On the processor the networks are the limit, and want the cores for themselves.
    return 1 if device == "cpu" else max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))


@contextmanager
def _scratch(place: Path, *, own: bool) -> Iterator[None]:
    """Make the scratch folder; one of the run's own is deleted in the end, if all went well."""
    make_folder(place)
    if own:
        for left in place.glob(f".*{PARTIAL}*"):
            left.unlink(missing_ok=True)
    else:
        clear_left_behind(place)
    yield
    if own:
        shutil.rmtree(place, ignore_errors=True)


def _prepare(material: Material, processes: Workers, progress: Progress) -> None:
    missing = material.missing()
    if missing:
        with progress.task("decoding what windows need", total=len(missing), unit="videos") as task:
            for request, _ in zip(missing, processes.prepare(missing), strict=True):
                task.advance(1, request.media.name)


def _shown(mean: float | None) -> str:
    return "undefined" if mean is None else f"{mean:.3f}"


def _done_before(new: Path, facts: Mapping[str, Any], started: float) -> FinetuneResult:
    """Return how a complete run ended, and clear away what one that was killed at the very end left."""
    shutil.rmtree(new / SCRATCH, ignore_errors=True)
    return _result(new, facts, started, trained=False)


def _result(run: Path, facts: Mapping[str, Any], started: float, *, trained: bool) -> FinetuneResult:
    return FinetuneResult(
        run=run,
        epochs=facts["epochs"],
        best_epoch=facts["best_epoch"],
        **facts["best"],
        seconds=time.perf_counter() - started,
        notes=facts["notes"],
        trained=trained,
        start=facts["start"],
        stream=facts["recipe"].get("stream"),
    )
