"""Folders in Aff-Wild2's layout, made of files that are named rightly and mostly empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

EDITIONS = ("Third ABAW Annotations", "5th_ABAW_Annotations", "6th ABAW Annotations", "annotations", "x/y")
TEST_LIST = "names_of_videos_in_each_test_set/Valence_Arousal_Estimation_Challenge_test_set_release.txt"


def annotation(path: Path, rows: Iterable[Sequence[object]] = ((0.1, 0.2),)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("valence,arousal\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def crop(folder: Path, frames: Iterable[int] = (1,)) -> None:
    touch(*(folder / f"{frame:05d}.jpg" for frame in frames))


def affwild2(root: Path, edition: str = "6th ABAW Annotations", *, merged: bool = False, tests: bool = True) -> Path:
    """Lay out four training people, two for validation and one for the test, with media and crops for all."""
    challenge = root / edition / "VA_Estimation_Challenge"
    for name in ("10-60-1280x720", "10-60-1280x720_right", "video5_left", "7-60-1920x1080-1"):
        annotation(challenge / "Train_Set" / f"{name}.txt")
    for name in ("video2", "49_1"):
        annotation(challenge / "Validation_Set" / f"{name}.txt")
    touch(*(root / "batch1" / f"{name}.mp4" for name in ("10-60-1280x720", "7-60-1920x1080-1", "video2", "49_1")))
    touch(root / "batch2" / "video5.avi", root / "batch2" / "video99.mp4")
    first, second = (
        ("cropped_aligned", "cropped_aligned")
        if merged
        else (
            "batch1/cropped_aligned",
            "batch2/cropped_aligned_new_50_vids",
        )
    )
    for name in ("10-60-1280x720", "10-60-1280x720_right", "7-60-1920x1080-1", "video2", "49_1"):
        crop(root / first / name)
    crop(root / second / "video5_left")
    crop(root / second / "video99_right")
    if tests:
        path = root / TEST_LIST
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("video99_right\n")
    return root
