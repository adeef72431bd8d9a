"""Whether a data set is whole and ready for extraction: counts against its edition, and everything that does not fit.

Videos are looked at one after the other and only counts are kept, so that memory does not grow with the data set.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vaprompt.datasets.affwild2 import PERSON, submission_template, unused
from vaprompt.datasets.base import SPLITS, Dataset, Modality, Problem, Split, Video
from vaprompt.datasets.editions import Edition, Expected, Recognised, recognise
from vaprompt.datasets.inspection import Inspector, Seen
from vaprompt.datasets.tabular import media_below, video_name
from vaprompt.errors import DatasetError
from vaprompt.progress import SILENT, Progress

AFFWILD2 = "affwild2"
NO_ANNOTATION = "no annotation"


@dataclass
class SplitCheck:
    """What one split holds."""

    videos: int = 0
    sides: int = 0
    """Names that end in `_left` or `_right`."""
    frames: int | None = 0
    """Rows of annotation; without annotation those of the submission's template, else what the media say. None
    where not even that is known for a video."""
    invalid: int | None = None
    """Frames of annotated videos without a valid label; None where nothing is annotated."""
    crops: int = 0
    """Frames that have a face crop."""
    missing_crops: int = 0
    """Frames without, in videos that have crops."""
    rates: Counter[str] = field(default_factory=Counter)
    """Mean frames a second, as the media's headers say -> number of videos."""
    sound: int = 0
    """Videos with a sound track; videos whose media cannot be read are in neither count."""
    silent: int = 0
    expected: Expected | None = None
    """The official counts of the edition."""

    def as_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        pictures = self.crops + self.missing_crops
        return {
            "videos": self.videos,
            "frames": self.frames,
            "invalid": self.invalid,
            "expected": None if self.expected is None else asdict(self.expected),
            "sides": self.sides,
            "crops": {
                "present": self.crops,
                "missing": self.missing_crops,
                "share": self.missing_crops / pictures if pictures else None,
            },
            "rates": dict(sorted(self.rates.items(), key=lambda item: float(item[0]))),
            "sound": {"with": self.sound, "without": self.silent},
        }


@dataclass
class Check:
    """The result of `check`."""

    name: str
    layout: str
    faces: Literal["crops", "frames", "detect"]
    modalities: tuple[Modality, ...]
    edition: str | None
    """`ABAW3`, `ABAW5-ABAW10`, `subset`, `unknown`; None for a layout that has no editions."""
    splits: dict[Split, SplitCheck]
    problems: list[Problem]
    left_out: list[str]
    """Videos that extraction will leave out; the problems say why."""
    ready: int
    """Videos that can be extracted."""
    deep: bool

    @property
    def exit_code(self) -> int:
        """0: all can be extracted; 3: all but what is left out; 2: nothing can."""
        return 2 if self.ready == 0 else 3 if self.left_out else 0

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON."""
        return {
            "name": self.name,
            "layout": self.layout,
            "edition": self.edition,
            "faces": self.faces,
            "modalities": list(self.modalities),
            "deep": self.deep,
            "splits": {split: found.as_json() for split, found in self.splits.items()},
            "ready": self.ready,
            "left_out": self.left_out,
            "problems": [
                {
                    "kind": problem.kind,
                    "video": problem.video or None,
                    "file": None if problem.file is None else str(problem.file),
                    "detail": problem.detail,
                }
                for problem in self.problems
            ],
        }


def check(dataset: Dataset, *, deep: bool = False, progress: Progress = SILENT) -> Check:
    """Return what the data set holds and what is wrong with it; nothing in it is changed.

    Args:
        dataset: the data set, opened.
        deep: decode all media and crops to their end, instead of believing headers and names.
        progress: told after each video.
    """
    problems = list(dataset.problems)
    template = _template(dataset, problems)
    splits = {split: SplitCheck() for split in SPLITS}
    left_out: list[str] = []
    inspector = Inspector(dataset, template, deep=deep)
    with progress.task("decoding" if deep else "checking", total=len(dataset.videos), unit="videos") as task:
        for video in dataset.videos:
            seen = inspector.inspect(video)
            problems += seen.problems
            left_out += [video.name] if seen.left_out else []
            _count(splits[video.split], video, seen)
            task.advance(1, note=video.name)
    ready = len(dataset.videos) - len(left_out)
    edition: str | None = None
    others = _unannotated(dataset)
    complete = False
    if dataset.layout == AFFWILD2:
        recognised = recognise({split: splits[split].videos for split in SPLITS})
        edition = recognised.name
        _compare(splits, recognised, problems, all_read=not any(problem.kind == "annotation" for problem in problems))
        complete = recognised.complete
    problems += others
    if not complete:
        # In a whole edition these are the other challenges' videos; here, what is missing may be theirs.
        left_out += sorted({problem.video for problem in others})
    about = (dataset.name, dataset.layout, dataset.faces, dataset.modalities)
    return Check(*about, edition, splits, problems, left_out, ready, deep)


def _count(split: SplitCheck, video: Video, seen: Seen) -> None:
    split.videos += 1
    split.sides += PERSON.search(video.name) is not None
    if seen.invalid is not None:
        split.invalid = (split.invalid or 0) + seen.invalid
    if split.frames is not None:
        # A file of labels that cannot be read is a problem of its own and must not hide the others' count.
        unknown = seen.frames is None and not seen.left_out
        split.frames = None if unknown else split.frames + (seen.frames or 0)
    split.crops += seen.crops
    split.missing_crops += seen.missing_crops
    if seen.media is not None:
        split.rates.update([f"{seen.media.rate:.5g}"] if seen.media.rate else [])
        split.sound += seen.media.audio is not None
        split.silent += seen.media.audio is None


def _compare(
    splits: dict[Split, SplitCheck], recognised: Recognised, problems: list[Problem], *, all_read: bool
) -> None:
    if recognised.edition is None:
        return
    for split, expected in recognised.edition.splits.items():
        splits[split].expected = expected
        if recognised.near:
            problems += _differences(split, splits[split], expected, recognised.edition, all_read=all_read)


def _differences(
    split: Split, found: SplitCheck, expected: Expected, edition: Edition, *, all_read: bool
) -> Iterator[Problem]:
    """Yield where a split differs from its edition; what follows from a file more or less is not told again."""
    if split == "test" and found.videos == 0:
        detail = f"{edition.name} names {expected.videos} test videos, but there is no list of them here"
        yield Problem("no test list", "", detail)
        return
    names = {"videos": "videos", "sides": "names that end in _left or _right"}
    if found.videos == expected.videos:
        names |= {"frames": "frames", "invalid": "rows of -5"} if all_read else {}
    for key, name in names.items():
        there, official = getattr(found, key), getattr(expected, key)
        if None not in (there, official) and there != official:
            yield Problem("count", "", f"{split}: {there:,} {name}, {edition.name} has {official:,}")


def _template(dataset: Dataset, problems: list[Problem]) -> Counter[str]:
    """Return how many rows the submission's template has for each video; empty without a template."""
    rows: Counter[str] = Counter()
    if dataset.layout != AFFWILD2:
        return rows
    try:
        path = submission_template(dataset.root)
    except DatasetError as error:
        problems.append(Problem("template", "", str(error), dataset.root))
        return rows
    if path is None:
        return rows
    with path.open(encoding="utf-8", errors="replace") as lines:
        next(lines)
        rows.update(line.partition("/")[0] for line in lines if line.strip())
    tests = {video.name for video in dataset.videos if video.split == "test"} | set(dataset.excluded)
    if tests:
        surplus, lacking = rows.keys() - tests, tests - rows.keys() - set(dataset.excluded)
        differing = [(name, "has rows in the template, but is not in the list") for name in sorted(surplus)]
        differing += [(name, "is in the list, but has no rows in the template") for name in sorted(lacking)]
        problems += [Problem("template", name, detail, path) for name, detail in differing]
    return rows


def _unannotated(dataset: Dataset) -> list[Problem]:
    """Return the media and crops that belong to no annotation; a name that is nearly right is told."""
    if dataset.layout == AFFWILD2:
        media, crops = unused(dataset)
    else:
        used = {video.media for video in dataset.videos}
        unasked = [path for path in media_below(dataset.root) if path not in used]
        inside = {path: video_name(path.relative_to(dataset.root).as_posix()) for path in unasked}
        media = [path for path in unasked if not {inside[path], path.stem} & set(dataset.excluded)]
        crops = []
    bare = [video.name for video in dataset.videos if video.crops is None]
    mute = [video.name for video in dataset.videos if video.media is None]
    problems = [_unused("media file", path.stem, path, mute) for path in media]
    problems += [_unused("folder of crops", path.name, path, bare) for path in crops]
    return problems


def _unused(what: str, name: str, path: Path, lacking: list[str]) -> Problem:
    near = difflib.get_close_matches(name, lacking, n=1, cutoff=0.8)
    hint = f"; {near[0]} lacks one, so is this misnamed?" if near else ""
    return Problem(NO_ANNOTATION, name, f"{what} without annotation and in no list of test videos{hint}", path)
