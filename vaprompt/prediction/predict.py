"""Valence and arousal for every frame of any video file, from a run alone: the run knows its extractor.

Axes: F decoded frames of a video, W windows; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vaprompt.devices import pick_device
from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.encoders.recipes import remarks
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.errors import MediaError, OptionError
from vaprompt.extraction.encode_media import sound_notes
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.faces.detector import INSTALL, CenterFace, Detector, missing
from vaprompt.faces.search import find_faces
from vaprompt.faces.tracking import Person
from vaprompt.files import make_folder, require_folder
from vaprompt.media.clock import has_picture, row_times, steady_times
from vaprompt.media.crops import is_folder, last_crop
from vaprompt.media.video import frame_times, probe, probe_sound
from vaprompt.memory import ELSEWHERE, enough_memory
from vaprompt.prediction.asked import csv_targets, known_rate, require_rate, unreadable_files
from vaprompt.prediction.given_crops import GivenCrops
from vaprompt.prediction.rows import write_rows
from vaprompt.prediction.subjects import Subject, gaps_note, predict_subjects
from vaprompt.progress import SILENT, Progress, Reached
from vaprompt.recipes import validated
from vaprompt.regions import RegionRecipe
from vaprompt.store.fingerprint import require_equal
from vaprompt.training.runs import Run, WindowEstimates, load_run, read_complete
from vaprompt.windows import describe_ends

WHOLE_FRAMES = "the run was trained on face crops; whole frames were used, so give videos that the face fills"
ROWS_A_SECOND = 30.0
"""Of a prediction from sound alone, where the run's data set had frames: Aff-Wild2's usual rate."""
CROPS_ARE_SILENT = "face crops have no sound: silence"
NO_FACE = "no face was found: whole frames were used, and every row is marked with face 0"

FaceChoice = Literal["auto", "detect", "frames"]
PersonChoice = Literal["largest", "all"]
FACES = ("crops", "detect")
"""What runs are trained on that want a face cut out."""


@dataclass(frozen=True)
class PredictedVideo:
    """One person's prediction in one video, as written to its CSV."""

    media: Path
    csv: Path
    time_F: Float64[np.ndarray, "F"]
    """Seconds from the first frame."""
    value_F2: Float32[np.ndarray, "F 2"]
    """Valence and arousal in [-1, 1]."""
    end_W: Float64[np.ndarray, "W"]
    """When windows end, in seconds."""
    windows: WindowEstimates
    """What the run said at these ends: regions and gate beside the values."""
    notes: list[str]
    face_F: Bool[np.ndarray, "F"] | None = None
    """Whether the person's face is there; None where faces were not looked for."""
    person: int | None = None
    """Counted from 1, the most prominent first; None where only one is asked for."""
    interpolation: str = ""
    """Where windows end, and what fills the frames between."""
    track: Person | None = None
    """Where the face is; None for whole frames."""
    margin: float = 1.0
    """Side of the crops that the network saw, as a multiple of what `track` places."""
    seen: bool = True
    """Whether the network saw anything; False for a run that only listens."""


@dataclass(frozen=True)
class PredictionReport:
    """What became of each media file."""

    done: list[PredictedVideo] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Media file -> why it could not be predicted."""
    regions: RegionRecipe = field(default_factory=RegionRecipe)
    """The run's regions, in the order of `PredictedVideo.windows`."""


def predict(
    run: Path,
    media: Sequence[Path],
    out: Path,
    *,
    faces: FaceChoice = "auto",
    person: PersonChoice = "largest",
    every: int | None = None,
    rate: float | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> PredictionReport:
    """Write `frame,time,valence,arousal` of every decoded frame of each media file to a CSV in `out`.

    A run that leaves pictures out predicts files of sound alone as well: so many rows a second as its data set's
    description says, or 30. A folder of one person's face crops, numbered by their frames, is predicted like a video
    without sound, with a row for each frame up to the last crop.

    Valence and arousal are on the scale of the data set's labels, [-1, 1] unless its description says otherwise.
    Where faces are looked for, or crops are given, a column `face` follows: 1 where the person's face is there, 0 where
    the values are interpolated in time. A file that cannot be decoded is recorded in the report, and the others go on.
    Memory does not grow with a video's length but for a few numbers a frame.

    Args:
        run: folder of a complete run.
        media: video files; or of sound, for a run that only listens; or folders of face crops.
        out: folder to write `<name>.csv` into, or `<name>.person<k>.csv` for all people; created.
        faces: `detect` looks for faces, `frames` takes whole frames; `auto` looks where the run was trained on faces
            and the detector is installed, and takes whole frames where there is no face at all.
        person: `largest` predicts whose face is large and there for long, `all` everybody.
        every: windows end at every so many frames (1: nothing is interpolated); by default at the recipe's stride.
        rate: frames a second of face crops, or rows a second of sound alone; videos tell their own.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        RunError: the run cannot be loaded, or memory does not suffice.
        WeightsError: the encoders that made its store are not at hand.
        FingerprintError: the encoders or the detector at hand are not those.
        DetectorError: faces are to be looked for, and the detector is not installed.
        TargetError: `out` cannot be written, or two files would have the same name there.
        OptionError: `rate` is none, or faces are to be detected in crops.
    """
    require_rate(rate)
    targets = csv_targets(media, out, several=person == "all" and faces != "frames")
    require_folder(out)
    unreadable = unreadable_files(targets, rate)
    if len(unreadable) == len(targets):  # known at once, where loading the encoders takes a while
        read_complete(run)
        for reason in unreadable.values():
            progress.say(reason)
        return PredictionReport(failed=unreadable)
    folders = [file for file in targets if is_folder(file)]
    if folders and faces == "detect":
        fault = f"says nothing of {folders[0]}, whose pictures are of faces already"
        raise OptionError("--faces detect", fault=fault, remedy="leave it out, and predict videos by themselves")
    if len(folders) == len(targets):
        faces = "frames"  # whether the detector is at hand does not matter
    predictor = load_predictor(
        run, faces=faces, person=person, every=every, rate=rate, device=device, progress=progress
    )
    report = PredictionReport(regions=predictor.run.recipe.regions)
    begun = not out.exists()
    make_folder(out)
    with progress.task("predicting", total=len(targets), unit="videos") as task:
        for file, target in targets.items():
            reason = unreadable.get(str(file), "")
            if not reason:
                try:
                    report.done.extend(predictor.predict(file, target, progress))
                except MediaError as error:
                    reason = str(error)
            if reason:
                report.failed[str(file)] = reason
                progress.say(reason)
            task.advance(1, file.name)
    if begun and not report.done:
        out.rmdir()  # made for nothing
    return report


def load_predictor(
    run: Path,
    *,
    faces: FaceChoice = "auto",
    person: PersonChoice = "largest",
    every: int | None = None,
    rate: float | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Predictor:
    """Return what predicts one video after another, the run and its encoders loaded once.

    Args:
        run: folder of a complete run.
        faces: as for `predict`.
        person: as for `predict`.
        every: as for `predict`.
        rate: as for `predict`.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far the loading is.

    Raises:
        RunError: the run cannot be loaded, or memory does not suffice.
        WeightsError: the encoders that made its store are not at hand.
        FingerprintError: the encoders or the detector at hand are not those.
        DetectorError: faces are to be looked for, and the detector is not installed.
    """
    device = pick_device(device)
    with enough_memory(run, remedy=ELSEWHERE):
        return _loaded(run, faces, person, every, rate, device, progress)


def _loaded(
    run: Path,
    faces: FaceChoice,
    person: PersonChoice,
    every: int | None,
    rate: float | None,
    device: str,
    progress: Progress,
) -> Predictor:
    loaded = load_run(run, device)
    recipe = validated(ExtractRecipe, loaded.facts["extraction"], where=str(run))
    used = loaded.recipe.model.modalities
    detector = _detector(loaded, faces) if "image" in used else None
    with progress.task("loading the encoders", total=len(used), unit="encoders") as task:
        seeing = image_encoder(recipe.image, device=device) if "image" in used else None
        task.advance(seeing is not None, "image")
        hearing = audio_encoder(recipe.audio, device=device) if "audio" in used else None
        task.advance(hearing is not None, "audio")
    _require_same_encoders(loaded, seeing, hearing)
    return Predictor(loaded, recipe, seeing, hearing, detector, faces, person, every, rate)


def label_scale(run: Run) -> tuple[float, float]:
    """Return the lowest and highest value of the scale of the data set that a run was trained on; -1 and 1 mostly."""
    low, high = run.facts["store"]["dataset"].get("label_range", (-1.0, 1.0))
    return float(low), float(high)


@dataclass(frozen=True)
class Predictor:
    """A run with its encoders, loaded; what all files share."""

    run: Run
    recipe: ExtractRecipe
    seeing: ImageEncoder | None
    """None where the run leaves pictures out."""
    hearing: AudioEncoder | None
    """None where it leaves sound out."""
    detector: Detector | None
    faces: FaceChoice
    person: PersonChoice
    every: int | None
    rate: float | None = None
    """Frames a second of face crops, rows a second of sound alone."""

    def predict(self, file: Path, target: Path, progress: Progress = SILENT) -> list[PredictedVideo]:
        """Write one video's prediction to the CSV `target`, or one beside it for each person; return them.

        Raises:
            MediaError: the video cannot be decoded, or shows no face where faces are to be detected.
            RunError: memory does not suffice for it.
            TargetError: the CSV cannot be written.
        """
        with enough_memory(self.run.path, remedy=ELSEWHERE):
            return self._predicted(file, target, progress)

    def _predicted(self, file: Path, target: Path, progress: Progress) -> list[PredictedVideo]:
        seconds = self.duration(file)
        people: list[Subject] = [None]
        notes: list[str] = []
        if is_folder(file):
            crops = GivenCrops.listed(file)
            people, time_F = [crops], steady_times(crops.frames, known_rate(file, crops.frames, self.rate))
        elif self.detector is not None:
            with progress.task(f"finding faces in {file.name}", total=seconds, unit="s") as task:
                found = find_faces(file, self.detector, self.recipe.face, task)
            time_F = found.time_F
            notes += self._choose(found.people, people, file)
        else:
            with progress.task(f"looking through {file.name}", total=seconds, unit="s") as task:
                time_F = self._row_times(file, Reached(task), notes)
        with progress.task(f"predicting {file.name}", total=float(time_F[-1]), unit="s") as task:
            subjects = predict_subjects(
                self.run, self.recipe, file, time_F, people, self.seeing, self.hearing, self.every, Reached(task)
            )
        if self.hearing is not None:
            notes += [CROPS_ARE_SILENT] if is_folder(file) else sound_notes(file)
        notes += self.notes(whole=people == [None])
        results = []
        for number, (person, said) in enumerate(zip(people, subjects, strict=True), start=1):
            alone = self.person == "largest" or not isinstance(person, Person)
            csv_file = target if alone else target.with_name(f"{target.stem}.person{number}.csv")
            face_F, gaps = None, None
            if person is not None or self.detector is not None:
                face_F = np.zeros(len(time_F), np.bool_) if person is None else person.visible(len(time_F))
                gaps = None if person is None else gaps_note(face_F, time_F)
            write_rows(csv_file, time_F, said.value_F2, face_F, label_scale(self.run))
            own = [*([gaps] if gaps else []), *notes]
            results.append(
                PredictedVideo(
                    file,
                    csv_file,
                    time_F,
                    said.value_F2,
                    said.end_W,
                    said.windows,
                    notes=own,
                    face_F=face_F,
                    person=None if alone else number,
                    interpolation=describe_ends(self.run.recipe.window.stride, self.every),
                    track=person if isinstance(person, Person) else None,
                    margin=self.recipe.face.scale,
                    seen=self.seeing is not None,
                )
            )
        return results

    def duration(self, file: Path) -> float | None:
        """Return how long a file is by its header, in seconds; None where that does not say.

        Raises:
            MediaError: it is none that this run can predict.
        """
        if is_folder(file):
            if self.seeing is None:
                fault = "is a folder, and the run only listens"
                raise MediaError(file, fault=fault, remedy="give sound, or a video that has some")
            frames = last_crop(file)
            return frames / known_rate(file, frames, self.rate)
        if self.seeing is not None or has_picture(file):
            return probe(file).duration
        sound = probe_sound(file)
        return None if sound is None else sound.duration

    def _row_times(self, file: Path, reached: Reached, notes: list[str]) -> Float64[np.ndarray, "F"]:
        """Return the times of a file's rows; put into `notes` what is to be remarked about them."""
        if self.seeing is not None or has_picture(file):
            return frame_times(file, reached)
        rate = float(self.rate or self.run.facts["store"]["dataset"].get("rate") or ROWS_A_SECOND)
        notes.append(f"the file holds sound alone: {rate:g} rows a second")
        return row_times(file, rate, reached)

    def _choose(self, found: list[Person], people: list[Subject], file: Path) -> list[str]:
        """Put those who are to be predicted into `people`; return what is to be remarked."""
        if not found:
            if self.faces == "detect":
                raise MediaError(file, fault="shows no face", remedy="use its whole frames with --faces frames")
            return [NO_FACE]
        people[:] = found if self.person == "all" else found[:1]
        if len(found) > len(people):
            return [f"{len(found)} people were found and the most prominent is predicted; --person all predicts each"]
        return []

    def notes(self, *, whole: bool) -> list[str]:
        """Return what is to be said of everything that this run predicts, from whole frames or from faces."""
        trained = self.run.facts["store"]["dataset"].get("faces")
        notes = []
        whole = whole and self.seeing is not None
        if whole and trained in FACES:
            notes.append(WHOLE_FRAMES)
            reason = missing()
            if reason is not None:
                notes.append(f"{reason}: {INSTALL}")
        if not whole and self.seeing is not None and trained == "frames":
            notes.append("the run was trained on whole frames, and faces were cut out")
        scale = label_scale(self.run)
        if scale != (-1.0, 1.0):
            notes.append(f"valence and arousal in the CSV are on the data set's scale, {scale[0]:g} to {scale[1]:g}")
        return notes + remarks(self.run.facts["extraction"])


def _detector(run: Run, faces: FaceChoice) -> Detector | None:
    """Return the detector, if faces are to be looked for and can be."""
    trained = run.facts["store"]["dataset"].get("faces")
    if faces == "frames" or (faces == "auto" and (trained not in FACES or missing() is not None)):
        return None
    detector = CenterFace()
    fingerprint = run.facts["store"]["fingerprints"].get("image", {})  # a run that only listens has none
    if "detector" in fingerprint:
        require_equal(
            {name: fingerprint.get(name) for name in detector.fingerprint},
            detector.fingerprint,
            where=f"{run.path} (face detector)",
            remedy="install the version of the detector that the run's store was made with",
        )
    return detector


def _require_same_encoders(run: Run, seeing: ImageEncoder | None, hearing: AudioEncoder | None) -> None:
    """Refuse encoders that are not those of the run's store, for example other weights under the same name."""
    encoders: dict[str, ImageEncoder | AudioEncoder | None] = {"image": seeing, "audio": hearing}
    for stream, trained in run.facts["store"]["fingerprints"].items():
        encoder = encoders[stream]
        if encoder is None:
            continue
        shared = {name: trained[name] for name in encoder.fingerprint if name in trained}
        require_equal(
            shared,
            {name: encoder.fingerprint[name] for name in shared},
            where=f"{run.path} ({stream} encoder)",
            remedy="bring the weights that the run's store was made with",
        )
