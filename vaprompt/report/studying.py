"""What is known of a run beyond its scores: its network asked window by window, its videos listened to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaprompt.errors import FingerprintError, NoStoreError, StoreError
from vaprompt.evaluation.ensemble import load_members
from vaprompt.progress import SILENT, Progress
from vaprompt.report.conditions import ConditionError, condition_error
from vaprompt.report.evidence import Evidence
from vaprompt.report.explaining import Explained, explain
from vaprompt.report.listening import Heard, listen
from vaprompt.store import FeatureStore

CLIP_SECONDS = 10.0
NO_DATA = "the sound is in no store: --data DATA, with the data set, shows how loud it is and where somebody speaks"
LEFT_OUT = "the data set leaves its sound out, and so does this page"


@dataclass(frozen=True)
class Study:
    """What was found out about the videos of an evaluation."""

    explained: dict[str, Explained] = field(default_factory=dict)
    """By video; empty where the store is not at hand."""
    heard: Heard = field(default_factory=Heard)
    conditions: list[ConditionError] = field(default_factory=list)
    audio_window: float = CLIP_SECONDS
    """Seconds of sound that a window of the store holds."""
    notes: list[str] = field(default_factory=list)
    """What could not be found out, and why."""
    lacking: bool = False
    """Whether something is missing that should be there."""


def study(
    evidence: Evidence,
    *,
    store: Path | str | None = None,
    data: Path | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Study:
    """Ask a run's network about every video of its evaluation, and listen to them.

    Args:
        evidence: the run.
        store: where its store is; by default where it was when the run was trained.
        data: the data set that the store was made of, for the sound.
        device: what computes.
        progress: who is told how far it is.

    Raises:
        StoreError: the store that is named cannot be opened, or is damaged. One that is not named may be missing.
        FingerprintError: the store was made otherwise than the one that the run was trained on.
        DatasetError, RecipeError: there is no data set, or its description is faulty.
    """
    names = [video.name for video in evidence.ranked]
    try:
        (member,) = load_members([evidence.run], store, device, progress)
    except StoreError as error:
        if store is not None or isinstance(error, FingerprintError):
            raise
        named = "" if isinstance(error, NoStoreError) else ", and name it with --store"
        note = f"gate, regions, attention and faces are left out: {error}{named}"
        return Study(conditions=conditions(evidence, {}, Heard()), notes=[note], lacking=True)
    explained: dict[str, Explained] = {}
    notes = []
    with progress.task("asking the network", total=len(names), unit="videos") as task:
        for name in names:
            if name in member.store.videos():
                explained[name] = explain(member.run, member.store, name)
            task.advance(1, name)
    unknown = [name for name in names if name not in explained]
    if unknown:
        notes.append(f"the store lacks {len(unknown)} of the videos that were scored, such as '{unknown[0]}'")
    heard = Heard() if data is None else listen(data, member.store, list(explained), progress)
    if data is None:
        notes.append(NO_DATA)
    if heard.left_out:
        notes.append(LEFT_OUT)
    if heard.missing:
        first, reason = next(iter(heard.missing.items()))
        notes.append(f"the sound of {len(heard.missing)} videos is not shown; {first}: {reason}")
    return Study(
        explained,
        heard,
        conditions(evidence, explained, heard),
        _clip_seconds(member.store),
        notes,
        lacking=bool(unknown or heard.missing),
    )


def _clip_seconds(store: FeatureStore) -> float:
    """Return how long a clip of sound is; as usual where none was encoded, and so none is shown."""
    if "audio" not in store.streams:
        return CLIP_SECONDS
    return float(store.fingerprint("audio").get("window", CLIP_SECONDS))


def conditions(evidence: Evidence, explained: dict[str, Explained], heard: Heard) -> list[ConditionError]:
    """Return the errors in all frames, with and without a voice, with and without a face, as far as that is known."""
    videos = evidence.evaluation.videos
    everywhere = {video.name: np.ones(len(video.time_F), bool) for video in videos}
    found = [condition_error("all frames", videos, everywhere)]
    voice = {
        video.name: heard.loudness[video.name].at(video.time_F)[1] for video in videos if video.name in heard.loudness
    }
    if voice:
        found.append(condition_error("a voice is heard", videos, voice))
        found.append(condition_error("no voice is heard", videos, {name: ~flag for name, flag in voice.items()}))
    faces = {name: one.seen_F for name, one in explained.items() if one.seen_F is not None}
    known = [video for video in videos if video.name in faces and len(faces[video.name]) == len(video.time_F)]
    if known:
        found.append(condition_error("a face is seen", known, faces))
        found.append(condition_error("no face is seen", known, {name: ~flag for name, flag in faces.items()}))
    return found
