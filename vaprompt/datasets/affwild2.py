"""Aff-Wild2's layout, as the ABAW challenges give it out: which video, crops, sound and labels belong to whom.

Folders are found by what they hold, since every edition and every unpacking names them differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vaprompt.datasets.annotation import HEADER, align, alignment_note, read_annotation
from vaprompt.datasets.base import MODALITIES, NO_RATES, Dataset, Modality, Problem, Rates, Split, Video
from vaprompt.datasets.survey import Survey, subfolders, survey
from vaprompt.errors import DatasetError

__all__ = ["align", "alignment_note", "read_affwild2", "read_annotation", "recognises", "submission_template", "unused"]

Faces = Literal["crops", "frames"]

ANNOTATED: tuple[tuple[str, Split], ...] = (("Train_Set", "train"), ("Validation_Set", "validation"))
TEMPLATE_HEADER = "image_location,valence,arousal"
NAME = re.compile(r"[A-Za-z0-9._-]+")
PERSON = re.compile(r"_(?:left|right)$")
"""Marks one of two annotated people in one video."""
TEST_LIST = re.compile(r"(valence_?arousal|(^|_)va_).*test", re.IGNORECASE)


def recognises(root: Path) -> bool:
    """Say whether a folder is in Aff-Wild2's layout: somewhere in it lie valence and arousal annotations.

    Raises:
        DatasetError: there is no such folder.
    """
    return bool(_valence_arousal(survey(root)))


def read_affwild2(
    root: Path,
    *,
    faces: Literal["crops", "frames", "auto"] = "auto",
    name: str | None = None,
    modalities: tuple[Modality, ...] = MODALITIES,
    rates: Rates = NO_RATES,
) -> Dataset:
    """Return the videos under `root`, each with its split, media file, crops and annotation.

    Nothing is decoded and no annotation is read here. A video that lacks something is still listed, with None in
    its place and an entry among the problems; only a data set that lacks it altogether is an error.

    Args:
        root: the folder that everything was unpacked into.
        faces: read face crops, whole video frames, or (auto) crops where there are any.
        name: the data set's name; the folder's by default.
        modalities: what is taken of it. For sound alone, files of sound do where there is no video of that name.
        rates: rows a second where no video tells its frames' times.

    Raises:
        DatasetError: there are no annotations or two editions of them, two files for the same video, a name that is
            not made of letters, digits, dot, dash and underscore, or neither crops nor media at all.
    """
    found = survey(root)
    annotation = _annotations(found, root)
    media, doubled_media = _by_stem(found.media)
    if "image" not in modalities:
        sounds, doubled_sounds = _by_stem(found.sounds)
        media, doubled_media = sounds | media, doubled_sounds | doubled_media
    crops, doubled_crops = _crops_by_name(found.aligned)
    read = _faces(faces, modalities, any_crops=bool(crops), any_media=bool(media), root=root)
    dataset = Dataset(name or root.resolve().name, "affwild2", root, read, (), modalities=modalities, rates=rates)
    tests = _test_names(found)
    videos, problems = [], []
    for split, video, path in [*annotation, *(("test", test, None) for test in tests)]:
        entry = Video(video, split, _media_of(video, media), crops.get(video), path)
        videos.append(entry)
        problems += _lacking(entry, dataset)
        problems += [Problem("doubled", video, doubled_crops[video], crops[video])] if video in doubled_crops else []
        stem = entry.media.stem if entry.media else ""
        problems += [Problem("doubled", video, doubled_media[stem], entry.media)] if stem in doubled_media else []
    _refuse_repeated(videos, root)
    order: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}
    videos.sort(key=lambda video: (order[video.split], video.name))
    return replace(dataset, videos=tuple(videos), problems=tuple(problems))


def submission_template(root: Path) -> Path | None:
    """Return the challenge's template of a submission (`image_location,valence,arousal`), or None without one.

    Its name changes with the edition (`..._VA_test_set_example.txt`, `..._sample.txt`), its header does not.

    Raises:
        DatasetError: there is no such folder, or it holds templates of several editions.
    """
    templates = [path for path in survey(root).texts if _first_line(path) == TEMPLATE_HEADER]
    if len(templates) > 1:
        raise DatasetError(
            root, fault=f"holds {len(templates)} templates: {_listed(templates)}", remedy="keep that of one edition"
        )
    return templates[0] if templates else None


def unused(dataset: Dataset) -> tuple[list[Path], list[Path]]:
    """Return the media files, and the folders of crops, that belong to no video of the data set.

    Some are the other challenges'. Those of videos that the description excludes are not among them.

    Raises:
        DatasetError: the data set's folder is not there any more.
    """
    found = survey(dataset.root)
    names = {video.name for video in dataset.videos} | set(dataset.excluded)
    taken = names | {PERSON.sub("", name) for name in names}
    used = {video.media.stem for video in dataset.videos if video.media is not None}
    media = [path for path in found.media if path.stem not in used and path.stem not in taken]
    crops = [path for folder in found.aligned for path in subfolders(folder) if path.name not in names]
    return media, crops


def _valence_arousal(found: Survey) -> list[Path]:
    """Return the annotated folders whose files speak of valence and arousal; expressions and action units do not.

    One wrong header must not make a data set disappear, so any right one is enough.
    """
    return [
        folder
        for folder in found.annotated
        if any(_first_line(path) == HEADER for name, _ in ANNOTATED for path in _texts(folder / name))
    ]


def _annotations(found: Survey, root: Path) -> list[tuple[Split, str, Path | None]]:
    folders = _valence_arousal(found)
    if not folders:
        others = [path for folder in found.annotated for name, _ in ANNOTATED for path in _texts(folder / name)]
        seen = f" ({others[0]} begins with {_first_line(others[0])[:40]!r})" if others else ""
        raise DatasetError(
            root,
            fault=f"holds no Train_Set or Validation_Set with files that begin with '{HEADER}'{seen}",
            remedy="unpack the annotations of the valence and arousal challenge into it",
        )
    if len(folders) > 1:
        raise DatasetError(
            root, fault=f"holds two editions of the annotations: {_listed(folders)}", remedy="keep one of them there"
        )
    rows: list[tuple[Split, str, Path | None]] = []
    for folder, split in ANNOTATED:
        for path in _texts(folders[0] / folder):
            _check_name(path.stem, path)
            rows.append((split, path.stem, path))
    return rows


def _test_names(found: Survey) -> list[str]:
    """Return the names in the list of test videos; none where there is no list."""
    lists = [path for path in found.texts if TEST_LIST.search(path.stem) and _first_line(path) != TEMPLATE_HEADER]
    if len(lists) > 1:
        raise DatasetError(
            lists[1], fault=f"is a second list of test videos beside {lists[0]}", remedy="keep that of one edition"
        )
    names: list[str] = []
    for path in lists:
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if line.strip():
                _check_name(line.strip(), path, number)
                names.append(line.strip())
    return names


def _check_name(name: str, path: Path, line: int | None = None) -> None:
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise DatasetError(
            path,
            line=line,
            fault=f"'{name[:80]}' is not the name of a video",
            remedy="names are made of letters, digits, dot, dash and underscore",
        )


def _by_stem(paths: Iterable[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the media files by name without suffix, and a remark for names that occur twice."""
    first: dict[str, Path] = {}
    doubled: dict[str, str] = {}
    for path in paths:
        if path.stem in first:
            doubled[path.stem] = f"two media files, {first[path.stem]} is used and {path} is not"
        else:
            first[path.stem] = path
    return first, doubled


def _crops_by_name(folders: Iterable[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    first: dict[str, Path] = {}
    doubled: dict[str, str] = {}
    for folder in folders:
        for path in subfolders(folder):
            if path.name in first:
                doubled[path.name] = f"two folders of crops, {first[path.name]} is used and {path} is not"
            else:
                first[path.name] = path
    return first, doubled


def _media_of(video: str, media: dict[str, Path]) -> Path | None:
    """Return a video's file: the exact name first, then the name without `_left` or `_right`.

    Both `video2` and `video2_left` are names of annotations, and either may have a file of its own.
    """
    return media.get(video) or media.get(PERSON.sub("", video))


def _faces(
    faces: Literal["crops", "frames", "auto"],
    modalities: tuple[Modality, ...],
    *,
    any_crops: bool,
    any_media: bool,
    root: Path,
) -> Faces:
    if "image" not in modalities:
        if not any_media:
            remedy = "unpack the videos (mp4, avi) or their sound (wav) into it"
            raise DatasetError(root, fault="holds no file with sound", remedy=remedy)
        return "frames"
    if faces != "crops" and any_media and not (faces == "auto" and any_crops):
        return "frames"
    if faces == "frames" or (faces == "auto" and not any_crops):
        raise DatasetError(root, fault="holds no video file", remedy="unpack the videos (mp4, avi) into it")
    if not any_crops:
        raise DatasetError(
            root,
            fault="holds no folder cropped_aligned... with face crops",
            remedy="unpack the aligned crops into it, or read whole frames with faces = 'frames'",
        )
    return "crops"


def _lacking(video: Video, dataset: Dataset) -> list[Problem]:
    problems = []
    if video.media is None and dataset.needs_media(video.name):
        name = PERSON.sub("", video.name)
        kinds = ".mp4 or .avi" if "image" in dataset.modalities else ".mp4, .avi or .wav"
        problems.append(Problem("no media", video.name, f"no file {name}{kinds}: times and sound are unknown"))
    if dataset.needs_crops and video.crops is None:
        problems.append(Problem("no crops", video.name, f"no folder {video.name} among the aligned crops"))
    return problems


def _refuse_repeated(videos: list[Video], root: Path) -> None:
    splits: dict[str, Split] = {}
    for video in videos:
        if video.name in splits:
            raise DatasetError(
                root,
                fault=f"video {video.name} is in the {splits[video.name]} split and again in the {video.split} split",
                remedy="leave it in one of them",
            )
        splits[video.name] = video.split


def _texts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as text:
            return text.readline(200).rstrip("\n")
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(path, fault=f"cannot be read as text ({error})", remedy="unpack it again") from None


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(str(path) for path in paths)
