"""One walk over an unpacked data set, whatever its folders are called: what lies where.

Aff-Wild2 reaches people as dozens of archives, unpacked in as many ways. The walk reads folder names only, never
the hundreds of thousands of pictures: it turns away from a folder at the first numbered picture it meets.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from vaprompt.errors import DatasetError
from vaprompt.media.crops import CROP_NAME

DEPTH = 6
MEDIA_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
SOUND_SUFFIXES = (".wav", ".m4a", ".ogg")
"""Files of sound alone. They are looked at only for data sets of sound: many people keep them beside their videos."""


@dataclass(frozen=True)
class Survey:
    """What a data set's folder holds."""

    annotated: list[Path] = field(default_factory=list)
    """Folders that hold `Train_Set` or `Validation_Set`."""
    aligned: list[Path] = field(default_factory=list)
    """Folders of aligned face crops, one folder a person in each."""
    media: list[Path] = field(default_factory=list)
    """Files with moving pictures."""
    sounds: list[Path] = field(default_factory=list)
    """Files of sound alone."""
    texts: list[Path] = field(default_factory=list)
    """Text files outside the annotations: lists of test videos, templates of submissions."""


def survey(root: Path) -> Survey:
    """Walk `root` at most six folders deep, in the order of names, and return what was found.

    Raises:
        DatasetError: `root` is missing or no folder, or a folder in it may not be read.
    """
    if not root.is_dir():
        raise DatasetError(root, fault="there is no such folder", remedy="give the folder that the data set lies in")
    found = Survey()
    _walk(root, found, DEPTH, seen=set())
    return found


def is_aligned(folder: Path) -> bool:
    """Say whether a folder's name is that of aligned crops: `cropped_aligned`, `cropped_aligned_new_50_vids`, ..."""
    return folder.name.lower().startswith("cropped_aligned")


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in `folder`, by name."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _walk(folder: Path, found: Survey, depth: int, seen: set[Path]) -> None:
    # Data sets are often put together from links, which may lead to the same place twice, or in a circle.
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    if is_aligned(folder):
        # An archive `cropped_aligned.zip` that is unpacked into a folder of its own name nests the two.
        inner = [child for child in subfolders(folder) if is_aligned(child)]
        for child in inner:
            _walk(child, found, depth - 1, seen)
        if not inner:
            found.aligned.append(folder)
        return
    folders, files = _entries(folder)
    if any(child.name in ("Train_Set", "Validation_Set") for child in folders):
        found.annotated.append(folder)
    found.media.extend(path for path in files if path.suffix.lower() in MEDIA_SUFFIXES)
    found.sounds.extend(path for path in files if path.suffix.lower() in SOUND_SUFFIXES)
    found.texts.extend(path for path in files if path.suffix.lower() == ".txt")
    if depth > 1:
        for child in folders:
            if child.name not in ("Train_Set", "Validation_Set"):
                _walk(child, found, depth - 1, seen)


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the visible folders and files; nothing for a folder of numbered pictures."""
    folders: list[Path] = []
    files: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(folder / entry.name)
                elif CROP_NAME.fullmatch(entry.name):
                    return [], []
                else:
                    files.append(folder / entry.name)
    except PermissionError:
        raise DatasetError(folder, fault="may not be read", remedy="change its permissions") from None
    return sorted(folders), sorted(files)
