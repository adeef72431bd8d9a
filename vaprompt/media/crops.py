"""Face crops: numbered pictures in a folder, of which any may be missing.

The number in the name is the frame: 00123.jpg is frame 123 whatever is missing before it. Counting the files
instead shifts everything after the first gap, a fault that has been shipped more than once.

Axes: N crops, H height, W width.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from vaprompt.errors import MediaError
from vaprompt.media.container import check_picture, faults, file_size
from vaprompt.media.limits import LARGEST_PICTURE_FILE, MOST_CROPS, MOST_FRAMES, MOST_SCANS
from vaprompt.media.patience import Pulse, patiently, patiently_each

GROUP, GROUP_BYTES = 16, 2**22
"""Pictures that are handed over at once; large ones make smaller groups."""

# An animated png whose animation is broken has a first picture all the same, and that is the one that is read.
warnings.filterwarnings("ignore", message="Invalid APNG", category=UserWarning)

CROP_NAME = re.compile(r"(\d{1,9})\.(?:jpg|jpeg|png)", re.IGNORECASE)


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder, as one of crops is; what cannot be looked at is none."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib raises where there are no rights


def list_crops(folder: Path) -> tuple[Int32[np.ndarray, "N"], list[Path]]:
    """Return the frames (1-based, ascending) that have a crop in `folder`, and the crops' paths.

    Files that are not named by a number are left out.

    Raises:
        MediaError: the folder is missing, numbers start at 0, or two files claim the same frame.
    """
    crops: dict[int, Path] = {}
    try:
        for path in folder.iterdir():
            match = CROP_NAME.fullmatch(path.name)
            if match is None:
                continue
            frame = int(match[1])
            if frame == 0:
                raise MediaError(path, fault="numbers the frames from 0", remedy="name the first frame 00001")
            if frame in crops:
                raise MediaError(path, fault=f"{crops[frame].name} is frame {frame} too", remedy="remove one of them")
            if len(crops) == MOST_CROPS:
                fault = f"holds more than the {MOST_CROPS} face crops that are allowed"
                raise MediaError(
                    folder, fault=fault, remedy="cut the video into pieces, with a folder of crops for each"
                )
            crops[frame] = path
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(folder, fault="there is no such folder of face crops", remedy="check the path") from None
    except OSError as error:
        raise MediaError(folder, fault=f"cannot be listed ({error.strerror})", remedy="check its rights") from None
    frames = sorted(crops)
    return np.array(frames, dtype=np.int32), [crops[frame] for frame in frames]


def last_crop(folder: Path) -> int:
    """Return the last frame (1-based) that has a crop in `folder`.

    Raises:
        MediaError: there is none, or they cannot be listed (see `list_crops`), or a video has not so many frames.
    """
    frame_N, paths = list_crops(folder)
    if not paths:
        raise MediaError(folder, fault="holds no face crop", remedy="unpack the crops, or exclude the video")
    if frame_N[-1] > MOST_FRAMES:
        fault = f"is of frame {frame_N[-1]}; {MOST_FRAMES} are allowed"
        raise MediaError(paths[-1], fault=fault, remedy="number the crops by the frames that they are of, from 00001")
    return int(frame_N[-1])


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Return a jpg or png as red, green, blue bytes.

    Raises:
        MediaError: the file is missing, is neither, is cut off, or breaks a limit on its size.
    """

    def work(pulse: Pulse) -> UInt8[np.ndarray, "H W 3"]:
        return _decoded(path, _content(path))

    return patiently(path, work)


def decode_picture(content: bytes, name: str, *, most_pixels: int, remedy: str) -> UInt8[np.ndarray, "H W 3"]:
    """Return a jpg or png that lies in memory, such as one that came over a network, as red, green, blue bytes.

    Args:
        content: the file's content.
        name: what it is called in an error.
        most_pixels: a larger one is refused before it is decoded.
        remedy: what helps against one that cannot be read.

    Raises:
        MediaError: it is neither, is cut off, or breaks a limit on its size.
    """
    path = Path(name)
    return patiently(path, lambda pulse: _decoded(path, content, most_pixels, remedy))


def read_images(paths: Iterable[Path]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield jpgs and pngs as `read_image` does, in their order, a few ahead.

    Raises:
        MediaError: the first that cannot be read is reached.
    """
    present = Path()

    def groups(pulse: Pulse) -> Iterator[list[UInt8[np.ndarray, "H W 3"]]]:
        nonlocal present
        group: list[UInt8[np.ndarray, "H W 3"]] = []
        for present in paths:
            try:
                group.append(_decoded(present, _content(present)))
            except MediaError:
                yield group  # those before it are fine
                raise
            pulse()
            if len(group) == GROUP or sum(image.nbytes for image in group) > GROUP_BYTES:
                yield group
                group = []
        yield group

    # In groups, as handing small pictures over one by one would cost a third of reading them.
    for group in patiently_each(lambda: present, groups, size=1):
        yield from group


def _content(path: Path) -> bytes:
    size = file_size(path)
    if size > LARGEST_PICTURE_FILE:
        fault = f"has {size} bytes; a picture may have {LARGEST_PICTURE_FILE}"
        raise MediaError(path, fault=fault, remedy="scale it down")
    with faults(path):
        return path.read_bytes()


def _decoded(
    path: Path, content: bytes, most_pixels: int | None = None, remedy: str = "unpack it again"
) -> UInt8[np.ndarray, "H W 3"]:
    kind = _Jpeg if content.startswith(b"\xff\xd8") else PngImageFile
    # Compressed data cannot hold these bytes, but small pictures within the header can: a few more count for nothing.
    if kind is _Jpeg and content.count(b"\xff\xda") > MOST_SCANS:
        raise MediaError(
            path, fault=f"is drawn in more than {MOST_SCANS} passes", remedy="save it again as an ordinary jpg"
        )
    try:
        # The class itself, as Image.open tries others too and warns of pictures that are allowed here.
        with kind(BytesIO(content)) as image:
            check_picture(path, image.width, image.height)
            if most_pixels is not None and image.width * image.height > most_pixels:
                fault = f"has {image.width}x{image.height} pixels; {most_pixels} are allowed"
                raise MediaError(path, fault=fault, remedy="scale it down")
            image.info.pop("transparency", None)  # nothing is seen through, and Pillow would warn of it
            return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
    except MediaError:
        raise
    except Exception as error:  # Pillow's readers stumble in many ways, of which not all are errors of theirs
        said = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(path, fault=f"is not a readable jpg or png ({said})", remedy=remedy) from None


class _Jpeg(JpegImageFile):
    """A jpg of which the picture alone is read."""

    def _read_dpi_from_exif(self) -> None:
        """Leave EXIF alone: nothing of it is used, and reading it is one more way to fail."""
