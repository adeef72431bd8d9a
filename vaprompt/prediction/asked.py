"""The files that a prediction is asked for: where each one's CSV goes, and which cannot be used at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from vaprompt.errors import MediaError, TargetError, VapromptError
from vaprompt.media.container import file_size
from vaprompt.media.patience import Pulse, patiently


def csv_targets(media: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Return each media file's CSV; two files of one name would overwrite each other.

    Raises:
        TargetError: there are such two.
        VapromptError: there is no file.
    """
    targets: dict[Path, Path] = {}
    for file in media:
        target = out / f"{file.stem}.csv"
        clash = [other for other, taken in targets.items() if taken == target and other != file]
        if clash:
            raise TargetError(
                target,
                fault=f"would be written for both {clash[0]} and {file}",
                remedy="predict them into two folders, or rename one",
            )
        targets[file] = target
    if not targets:
        raise VapromptError(None, fault="no media file is given", remedy="name one or more video files")
    return targets


def unreadable_files(files: Iterable[Path]) -> dict[str, str]:
    """Return of each file that is missing, empty or no file at all what is wrong with it."""
    found: dict[str, str] = {}
    for file in files:
        try:
            patiently(file, partial(_looked_at, file))
        except MediaError as error:
            found[str(file)] = str(error)
    return found


def _looked_at(file: Path, _: Pulse) -> int:
    return file_size(file)
