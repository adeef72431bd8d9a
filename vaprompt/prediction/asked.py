"""What a prediction is asked of: where each one's CSV goes, which cannot be used at all, and the rate of face crops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from vaprompt.errors import MediaError, OptionError, TargetError, VapromptError
from vaprompt.media.clock import has_picture
from vaprompt.media.container import file_size
from vaprompt.media.crops import is_folder, last_crop, list_crops
from vaprompt.media.limits import LONGEST_VIDEO
from vaprompt.media.patience import Pulse, patiently

PERSON = re.compile(r"\.person[1-9][0-9]*\.csv$")
"""How the CSV of one of several people ends, after its video's name."""
MOST_RATE = 240.0
"""Frames a second, as in a data set's description."""


def csv_targets(media: Sequence[Path], out: Path, *, several: bool = False) -> dict[Path, Path]:
    """Return the CSV of each media file or folder of crops; two of one name would overwrite each other.

    Args:
        media: what is to be predicted.
        out: the folder that the CSVs go into.
        several: whether each person in a video may get one of their own beside its CSV.

    Raises:
        TargetError: there are such two, or pictures would come among the crops that are predicted.
        VapromptError: there is no file.
    """
    targets: dict[Path, Path] = {}
    for file in media:
        target = out / f"{file.resolve().name if is_folder(file) else file.stem}.csv"
        clash = [other for other, taken in targets.items() if taken == target and other != file]
        if clash:
            raise _written_twice(target, clash[0], file)
        if is_folder(file) and file.resolve() == out.resolve():
            raise TargetError(out, fault="is the folder of face crops itself", remedy="name another folder with --out")
        targets[file] = target
    if several:
        videos = {target.name: file for file, target in targets.items() if not is_folder(file)}
        for file, target in targets.items():
            video = videos.get(PERSON.sub(".csv", target.name))
            if video is not None and video != file:
                raise _written_twice(target, video, file)
    if not targets:
        raise VapromptError(None, fault="no media file is given", remedy="name one or more video files")
    return targets


def _written_twice(target: Path, first: Path, second: Path) -> TargetError:
    fault = f"would be written for both {first} and {second}"
    return TargetError(target, fault=fault, remedy="predict them into two folders, or rename one")


def require_rate(rate: float | None) -> None:
    """Refuse a rate that no pictures come at, as a data set's description does.

    Raises:
        OptionError: it is such a one.
    """
    if rate is not None and not 0 < rate <= MOST_RATE:
        fault = "is not above 0 and at most 240"
        raise OptionError(f"--rate {rate:g}", fault=fault, remedy="give the frames a second of the video")


def known_rate(folder: Path, frames: int, rate: float | None) -> float:
    """Return the rate of a folder of crops of so many frames.

    Raises:
        MediaError: it is not known, or would make them longer than a video may be.
    """
    if rate is None:
        fault = "is a folder of face crops, which do not tell their times"
        raise MediaError(folder, fault=fault, remedy="give the frames a second of their video, such as --rate 30")
    if frames / rate > LONGEST_VIDEO:
        fault = f"is of {frames} frames, {frames / rate:.0f} s at {rate:g} a second; {LONGEST_VIDEO:.0f} s are allowed"
        raise MediaError(folder, fault=fault, remedy="correct --rate, or predict it in pieces")
    return rate


def unreadable_files(files: Iterable[Path], rate: float | None = None) -> dict[str, str]:
    """Return what is wrong with each file or folder that cannot be used.

    Those are files that are missing, empty or no file at all, folders without crops or of crops whose rate is not
    known, and videos where there is a rate, as they tell their own.

    Args:
        files: what is to be predicted.
        rate: frames or rows a second of what does not tell it.
    """
    found: dict[str, str] = {}
    for file in files:
        try:
            if is_folder(file):
                known_rate(file, patiently(file, partial(_listed, file)), rate)
                continue
            patiently(file, partial(_looked_at, file))
            if rate is not None and has_picture(file):
                fault = f"is a video, which tells the times of its frames: a rate of {rate:g} says nothing"
                raise MediaError(file, fault=fault, remedy="leave --rate out, and predict face crops by themselves")
        except MediaError as error:
            found[str(file)] = str(error)
    return found


def _listed(folder: Path, _: Pulse) -> int:
    if not len(list_crops(folder)[0]):
        fault = "is a folder without numbered pictures, such as 00001.jpg"
        raise MediaError(folder, fault=fault, remedy="name a folder of one person's face crops, or media files")
    return last_crop(folder)


def _looked_at(file: Path, _: Pulse) -> int:
    return file_size(file)
