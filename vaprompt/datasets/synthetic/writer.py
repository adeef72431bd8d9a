"""Writes a synthetic data set in Aff-Wild2's layout: media, face crops, annotations, test list, submission template.

    TARGET/synthetic.json                                              what it was made from
    TARGET/batch1/10-60-1280x720.mp4                                   media (some in batch2)
    TARGET/batch1/cropped_aligned/10-60-1280x720_right/00001.jpg       crops
    TARGET/batch2/cropped_aligned_new_50_vids/...
    TARGET/6th ABAW Annotations/VA_Estimation_Challenge/{Train_Set,Validation_Set}/10-60-1280x720.txt
    TARGET/names_of_videos_in_each_test_set/Valence_Arousal_Estimation_Challenge_test_set_release.txt
    TARGET/CVPR_6th_ABAW_VA_test_set_example.txt

All is written into a folder beside TARGET, which takes TARGET's name only when it is complete.

Axes: F frames of a video; H, W picture; L sound samples.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vaprompt.children import end_at_an_interrupt, end_with_parent, spawning_out_of_interrupts_reach
from vaprompt.datasets.synthetic.cast import Recording, Role, deal
from vaprompt.datasets.synthetic.media import write_media
from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
from vaprompt.datasets.synthetic.scene import Scene, Shot
from vaprompt.datasets.synthetic.trajectory import random_source
from vaprompt.errors import TargetError
from vaprompt.files import parsed_json
from vaprompt.progress import SILENT, Progress

MARKER = "synthetic.json"
FORMAT = 1
"""Goes up when the same recipe would give another data set."""
NAMESPACE = "dataset"
LONGEST_WAVE = 90.0
"""Moods outlast a video here as in life: else a mean over the last 10 s would tell nothing at all of the present."""
CROPS = {1: "batch1/cropped_aligned", 2: "batch2/cropped_aligned_new_50_vids"}
ANNOTATIONS = "6th ABAW Annotations/VA_Estimation_Challenge"
FOLDERS = {"train": "Train_Set", "validation": "Validation_Set"}
TEST_LIST = "names_of_videos_in_each_test_set/Valence_Arousal_Estimation_Challenge_test_set_release.txt"
TEMPLATE = "CVPR_6th_ABAW_VA_test_set_example.txt"
# Below this, starting processes costs more than they save.
_SECONDS_WORTH_PROCESSES = 150.0


def write_synthetic(target: Path, recipe: SyntheticRecipe, progress: Progress = SILENT) -> None:
    """Write the data set of the recipe to `target`; do nothing where it stands already.

    The same recipe gives the same annotations and crops byte for byte, and the same decoded pictures. More than
    a few minutes of video are drawn by several processes, started afresh ("spawn"): a script that calls
    this needs the usual `if __name__ == "__main__":`.

    Raises:
        TargetError: `target` holds something else (a data set of another recipe, or other files), or cannot be
            written.
    """
    if _is_made(target, recipe):
        progress.say(f"{target} holds this data set already")
        return
    aside = target.absolute().parent / f".{target.name}.partial-{os.getpid()}"
    try:
        _clear_leftovers(aside.parent, target.name)
        aside.mkdir(parents=True)
        recordings = deal(recipe)
        frames: dict[str, int] = {}
        with progress.task("drawing the synthetic data set", total=len(recordings), unit="videos") as task:
            for recording, count in _drawn(recordings, aside, recipe.seed):
                frames |= {role.name: count for role in recording.roles if role.split == "test"}
                task.advance(1, recording.stem)
        _write_test_lists(aside, frames)
        made_from = {"format": FORMAT, "recipe": recipe.model_dump(mode="json")}
        (aside / MARKER).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
        aside.replace(target)
    except OSError as error:
        raise TargetError(
            target, fault=f"the data set cannot be written ({error.strerror or error})", remedy="choose another folder"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_made(target: Path, recipe: SyntheticRecipe) -> bool:
    """Return whether `target` holds the recipe's data set; False where nothing is there.

    Raises:
        TargetError: something else is there.
    """
    remedy = "choose another folder, or delete this one"
    try:
        made_from = parsed_json((target / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise TargetError(target, fault="exists and is no synthetic data set", remedy=remedy) from None
        return False
    except (OSError, ValueError) as error:
        raise TargetError(target / MARKER, fault=f"cannot be read ({error})", remedy=remedy) from None
    asked = recipe.model_dump(mode="json")
    if made_from == {"format": FORMAT, "recipe": asked}:
        return True
    there = made_from.get("recipe", {}) if isinstance(made_from, dict) else {}
    differing = [
        f"{key} {there.get(key)} there, {value} asked" for key, value in asked.items() if there.get(key) != value
    ]
    differing = differing or ["another version of the generator"]
    raise TargetError(target, fault=f"holds another synthetic data set ({', '.join(differing)})", remedy=remedy)


def _clear_leftovers(folder: Path, name: str) -> None:
    """Delete what killed runs left beside the target; those of living processes stay."""
    for leftover in folder.glob(f".{name}.partial-*"):
        process = leftover.name.rpartition("-")[2]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _drawn(recordings: tuple[Recording, ...], root: Path, seed: int) -> Iterator[tuple[Recording, int]]:
    """Draw the recordings, several at a time where that pays; yield each with its number of frames."""
    workers = min(len(os.sched_getaffinity(0)), 8, len(recordings))
    if workers == 1 or sum(recording.seconds for recording in recordings) < _SECONDS_WORTH_PROCESSES:
        for recording in recordings:
            yield recording, draw_recording(recording, root, seed)
        return
    # Spawned, not forked: the calling process may hold threads of other libraries.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        # The longest first, so that none is left alone at the end.
        ordered = sorted(recordings, key=lambda recording: -recording.seconds * recording.rate * len(recording.people))
        with spawning_out_of_interrupts_reach():
            waiting: dict[Future[int], Recording] = {
                pool.submit(draw_recording, recording, root, seed): recording for recording in ordered
            }
        try:
            while waiting:
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Begin a process of the pool: one that waits, or has begun to draw, ends by Ctrl-C without a word."""
    end_at_an_interrupt()
    end_with_parent()


def draw_recording(recording: Recording, root: Path, seed: int) -> int:
    """Write one recording's media, crops and annotations under `root`; return its number of frames."""
    time_F = frame_times_of(recording, seed)
    length = float(time_F[-1]) + 1 / float(recording.rate)
    scenes = [
        Scene(
            NAMESPACE,
            seed=seed,
            number=person,
            seconds=length,
            surroundings=recording.surroundings,
            longest=LONGEST_WAVE,
        )
        for person in recording.people
    ]
    crops = {role: _crop_folder(root, recording, role) for role in recording.roles}
    missing = {role: _missing_crops(role, len(time_F), seed) for role in recording.roles}

    def pictures() -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]]:
        shots: Iterator[tuple[Shot, ...]] = zip(*(scene.shots(time_F) for scene in scenes), strict=True)
        for frame, (time, together) in enumerate(zip(time_F.tolist(), shots, strict=True), start=1):
            for role, folder in crops.items():
                if frame not in missing[role]:
                    together[role.place].crop().save(folder / f"{frame:05d}.jpg", quality=90)
            yield time, np.concatenate([shot.rgb_HWC for shot in together], axis=1)

    media = root / f"batch{recording.batch}" / f"{recording.stem}.{recording.container}"
    height, width = scenes[0].size
    write_media(
        media,
        pictures=pictures(),
        size=(width * len(scenes), height),
        rate=recording.rate,
        variable=recording.variable,
        wave_L=_sound(recording, scenes) if recording.audio else None,
        fine_audio=recording.fine_audio,
    )
    for role in recording.roles:
        if role.split != "test":
            _write_annotation(root, role, scenes[role.place], time_F, float(recording.rate))
    return len(time_F)


def frame_times_of(recording: Recording, seed: int) -> Float64[np.ndarray, "F"]:
    """Return the time of each frame in seconds; the first is at 0."""
    ticks = int(recording.seconds * recording.rate)
    if not recording.variable:
        return np.arange(ticks) / float(recording.rate)
    # A telephone that drops frames for a while: every frame lasts one, two or three ticks, by spells.
    random = random_source(seed, "ticks", recording.stem)
    kind = random.choice(3, size=ticks, p=(0.6, 0.25, 0.15))
    # So that the shortest video varies too.
    kind[1] = 2
    spell = np.repeat(kind, 8)
    step = 1 + np.where(random.random(len(spell)) < 0.8, spell, 0)
    at = np.concatenate(([0], np.cumsum(step)))
    return at[at < ticks] / float(recording.rate)


def _sound(recording: Recording, scenes: list[Scene]) -> Float32[np.ndarray, "L"]:
    # Whoever is annotated sits closer to the microphone.
    annotated = {role.place for role in recording.roles}
    level = {place: 1.0 if place == min(annotated) else 0.35 for place in range(len(scenes))}
    wave_PL = np.stack([np.float32(level[place]) * scene.sound() for place, scene in enumerate(scenes)])
    wave_L: Float32[np.ndarray, "L"] = wave_PL.sum(axis=0)
    if recording.silence:
        wave_L[int(0.4 * len(wave_L)) : int(0.65 * len(wave_L))] = 0
    np.clip(wave_L, -1, 1, out=wave_L)
    return wave_L


def _crop_folder(root: Path, recording: Recording, role: Role) -> Path:
    folder = root / CROPS[recording.batch] / role.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _missing_crops(role: Role, frames: int, seed: int) -> frozenset[int]:
    """Return the frames in which no face was found."""
    if not role.missing_crops:
        return frozenset()
    random = random_source(seed, "missing crops", role.name)
    run = int(random.integers(frames // 3, 2 * frames // 3))
    lost = {1, 2, *range(run, run + max(2, frames // 30))}
    lost |= {int(frame) for frame in random.integers(3, frames + 1, max(1, frames // 60))}
    return frozenset(lost)


def _write_annotation(root: Path, role: Role, scene: Scene, time_F: Float64[np.ndarray, "F"], rate: float) -> None:
    beyond_F = time_F[-1] + np.arange(1, role.more_rows + 1) / rate
    value_F2 = scene.affect(np.concatenate((time_F, beyond_F)))
    frames = len(time_F)
    if role.invalid_start:
        value_F2[: max(3, frames // 16)] = -5
    if role.invalid_inside:
        value_F2[2 * frames // 5 : 2 * frames // 5 + max(3, frames // 20)] = -5
    rows = ["-5,-5" if valence == -5 else f"{valence:.3f},{arousal:.3f}" for valence, arousal in value_F2.tolist()]
    path = root / ANNOTATIONS / FOLDERS[role.split] / f"{role.name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["valence,arousal", *rows, ""]), encoding="utf-8")


def _write_test_lists(root: Path, frames: dict[str, int]) -> None:
    names = sorted(frames)
    path = root / TEST_LIST
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    rows = [f"{name}/{frame:05d}.jpg,0,0\n" for name in names for frame in range(1, frames[name] + 1)]
    (root / TEMPLATE).write_text("".join(["image_location,valence,arousal\n", *rows]), encoding="utf-8")
