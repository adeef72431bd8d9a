"""Face crops: numbered pictures in a folder, of which any may be missing.

The number in the name is the frame: 00123.jpg is frame 123 whatever is missing before it. Counting the files
instead shifts everything after the first gap, a fault that has been shipped more than once.

Axes: N crops, H height, W width.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from vaprompt.errors import MediaError
from vaprompt.media.container import LARGEST_PICTURE

CROP_NAME = re.compile(r"(\d{1,9})\.(?:jpg|jpeg|png)", re.IGNORECASE)


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
            crops[frame] = path
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(folder, fault="there is no such folder of face crops", remedy="check the path") from None
    frames = sorted(crops)
    return np.array(frames, dtype=np.int32), [crops[frame] for frame in frames]


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Return a jpg or png as red, green, blue bytes.

    Raises:
        MediaError: the file is missing, is neither, is cut off, or is larger than 8192 x 8192.
    """
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            if image.width * image.height > LARGEST_PICTURE:
                raise MediaError(
                    path, fault=f"{image.width}x{image.height} exceeds 8192x8192", remedy="scale the picture down"
                )
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except FileNotFoundError:
        raise MediaError(path, fault="there is no such file", remedy="check the path") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(path, fault=f"is not a readable jpg or png ({error})", remedy="unpack it again") from None
