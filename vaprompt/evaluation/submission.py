"""Predictions for the test split, in the file that the challenge asks for.

A frame without an encoded picture (no face crop) has a row too. Windows end at frames that have one, and the others
are filled in time from those.

Axes: F frames of a video, L rows of the template, R those of one video; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from vaprompt.allocation import keep_freed_memory
from vaprompt.devices import pick_device
from vaprompt.errors import TargetError
from vaprompt.evaluation.ensemble import Member, load_members, mean_over_runs
from vaprompt.evaluation.filling import Fill, fill_frames, picture_ends
from vaprompt.evaluation.smoothing import NONE, Smoothing, smooth
from vaprompt.evaluation.template import FIRST_ROW, SubmissionError, Template, check_submission, read_template
from vaprompt.files import published, require_file
from vaprompt.progress import SILENT, Progress
from vaprompt.training.inputs import read_inputs
from vaprompt.windows import describe_ends, interpolate

LINE_END = "\r\n"
AT_ONCE = 2
"""Videos in hand."""
BEYOND = 10
"""Frames that a template may ask for behind a video's last decoded one, or 1 % of the video where that is more."""


@dataclass(frozen=True)
class Submission:
    """A file that was written."""

    path: Path
    rows: int
    videos: int
    filled: int
    """Rows of frames without an encoded picture."""
    interpolation: str
    """Where windows end, and what fills the frames between."""
    notes: list[str] = field(default_factory=list)


def submit(
    runs: Sequence[Path],
    *,
    store: Path | str,
    template: Path,
    out: Path,
    fill: Fill = "interpolate",
    every: int | None = None,
    smoothing: Smoothing = NONE,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Submission:
    """Write the template's rows with the predictions of a run, or the mean of several runs'.

    Args:
        runs: folders of complete runs.
        store: feature store that holds every video of the template.
        template: the edition's file.
        out: file to write; it appears whole and checked, or not at all.
        fill: where the value of a frame without an encoded picture comes from: both neighbours that have one, by
            time; the one before (the first one, where there is none before); or the nearest in time.
        every: windows end at every so many frames that have a picture; by default at every stride of the recipe.
        smoothing: filter over the finished traces.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        RunError: a run cannot be loaded.
        FingerprintError: the store was made otherwise than the one that a run was trained on.
        SubmissionError: the template breaks its format, or asks for a video or frame that the store does not have.
        TargetError: `out` cannot be written, or is the template.
    """
    _require_target(out, template)
    keep_freed_memory()
    members = load_members(runs, store, pick_device(device), progress)
    asked = read_template(template)
    _require_videos(asked, members[0])
    value_L2 = np.empty((len(asked.frame_L), 2), np.float32)
    order_L = np.argsort(asked.video_L, kind="stable")
    bounds = np.searchsorted(asked.video_L[order_L], np.arange(len(asked.videos) + 1))
    filled = beyond = 0
    seeing = next((member for member in members if "image" in member.run.recipe.model.modalities), None)

    def predict(index: int) -> tuple[Int64[np.ndarray, "R"], Float32[np.ndarray, "F 2"]]:
        """Return the rows of a video, and its finished trace."""
        name, rows_R = asked.videos[index], order_L[bounds[index] : bounds[index + 1]]
        _require_frames(asked, rows_R, name, len(members[0].store.labels(name).time_F), members[0])
        traces = [predict_stored(member, name, fill=fill, every=every) for member in members]
        # Behind the mean, as `evaluate` has it: of a median the order is not all the same.
        time_F = members[0].store.labels(name).time_F
        return rows_R, smooth(time_F, mean_over_runs(traces), smoothing).clip(-1, 1)

    with (
        progress.task("predicting", total=len(asked.videos), unit="videos") as task,
        # What is read and smoothed of one video need not keep the lanes from predicting another one.
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="video") as pool,
    ):
        for name, (rows_R, trace_F2) in zip(asked.videos, pool.map(predict, range(len(asked.videos))), strict=True):
            frame_R, frames = asked.frame_L[rows_R], len(trace_F2)
            value_L2[rows_R] = trace_F2[np.minimum(frame_R, frames) - 1]
            if seeing is not None:
                filled += int((~np.isin(frame_R, seeing.store.image_times(name)[0])).sum())
            beyond += int((frame_R > frames).sum())
            task.advance(1, name)
    _write(asked, value_L2, out, progress)
    notes = [f"{filled} rows of frames without an encoded picture: {_FILLS[fill]}"] if filled else []
    if beyond:
        notes.append(f"{beyond} rows are of frames behind a video's last decoded one, whose value is held")
    if len(members) > 1:
        notes.append(f"the mean of {len(members)} runs' predictions")
    if smoothing != NONE:
        notes.append(f"smoothed: {smoothing}")
    ends = describe_ends(members[0].run.recipe.window.stride, every, "encoded picture")
    return Submission(out, len(asked.frame_L), len(asked.videos), filled, ends, notes)


_FILLS = {
    "interpolate": "interpolated in time between the frames that have one",
    "previous": "from the frame before that has one",
    "nearest": "from the frame nearest in time that has one",
}


def predict_stored(member: Member, name: str, *, fill: Fill, every: int | None) -> Float32[np.ndarray, "F 2"]:
    """Return a run's prediction for every frame of a stored video, those without a picture filled from the others."""
    recipe = member.run.recipe
    known = read_inputs(member.store, name, recipe.model.modalities)
    time_N, time_F, window = known.image_time_N, known.labels.time_F, recipe.window
    end_W = picture_ends(time_N, float(time_F[-1]), seconds=window.seconds, stride=window.stride, every=every)
    value_N2 = interpolate(end_W, member.run.predict_at(end_W, *known.arrays), time_N)
    return fill_frames(time_N, value_N2, time_F, fill)


def _require_target(out: Path, template: Path) -> None:
    """Refuse, before anything is predicted, what no submission can be written to."""
    if out.exists() and template.exists() and out.samefile(template):
        raise TargetError(out, fault="is the template", remedy="name another file")
    require_file(out)


def _write(template: Template, value_L2: np.ndarray, out: Path, progress: Progress) -> None:
    """Write the template's locations with the values, and check what was written before it is published."""
    with progress.task("writing", total=1, unit="files") as task:
        with published(out) as aside:
            with (
                template.path.open(encoding="utf-8-sig") as asked,
                aside.open("w", encoding="utf-8", newline="\n") as file,
            ):
                file.write(next(asked).rstrip(LINE_END) + "\n")
                rows = zip(asked, value_L2[:, 0].tolist(), value_L2[:, 1].tolist(), strict=False)
                file.writelines(f"{row.rstrip(LINE_END).partition(',')[0]},{v:.6f},{a:.6f}\n" for row, v, a in rows)
            faults, total = check_submission(aside, template.path, most=1)
            if total:  # never the user's mistake, and never to be published
                raise RuntimeError(f"{out}:{faults[0].line}: {faults[0].fault}; {total} faults in what was written")
        task.advance()


def _require_videos(template: Template, member: Member) -> None:
    there = set(member.store.videos())
    missing = [index for index, name in enumerate(template.videos) if name not in there]
    if missing:
        row = int(np.argmax(template.video_L == missing[0]))
        name = template.videos[missing[0]]
        reason = member.store.failed().get(name)
        raise SubmissionError(
            template.path,
            line=row + FIRST_ROW,
            fault=f"video '{name}' and {len(missing) - 1} more of {len(template.videos)} are not in "
            f"{member.store.location}" + (f" (extraction failed: {reason})" if reason else ""),
            remedy="extract the test split into that store",
        )


def _require_frames(template: Template, rows: Int64[np.ndarray, "_"], name: str, frames: int, member: Member) -> None:
    last = frames + max(BEYOND, frames // 100)
    wrong = rows[template.frame_L[rows] > last]
    if len(wrong):
        row = int(wrong.min())
        raise SubmissionError(
            template.path,
            line=row + FIRST_ROW,
            fault=f"asks for frame {template.frame_L[row]} of '{name}', of which {member.store.location} has {frames}",
            remedy="check that the video is complete and was not cut when it was extracted",
        )
