"""What is decoded once and kept on disk while encoders are fine-tuned: sound, and pictures that are no files yet.

Windows overlap, and every epoch reads them again: decoding ten seconds of video for each takes a third of a second.
The pictures that some window uses are kept as they go into the encoder's resizing or come out of it, whichever is
smaller, and the whole sound in the encoder's sample rate, without loss; loading maps these files into memory.

A file appears whole or not at all, under a name that says what it was made of, so that several trainings can share a
folder and a killed one goes on.

Axes: M pictures that are kept, N pictures, S their side, C colours, L samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from vaprompt.datasets.base import Dataset, Video
from vaprompt.errors import MediaError
from vaprompt.extraction.pictures import chosen_pictures
from vaprompt.extraction.whose_face import whose_face
from vaprompt.faces.detector import CenterFace
from vaprompt.faces.search import find_faces
from vaprompt.faces.tracking import Person as Found
from vaprompt.files import published
from vaprompt.finetuning.requests import Fit, Prepare, Setup
from vaprompt.media.audio import has_audio, sound_pieces
from vaprompt.media.resize import fitted
from vaprompt.training.room import reserve

SAME_TIME = 1e-4
"""Seconds by which a frame's time may differ from the one that the store knows; far below any frame's duration."""


def prepare(request: Prepare, setup: Setup) -> None:
    """Decode a media file, and keep what is asked for.

    Raises:
        MediaError: it cannot be decoded, or is not the file that the store was made of.
        DatasetError: nobody is found in it.
        DetectorError: faces are to be found, and the detector is not installed.
        TargetError: the scratch folder cannot be written.
    """
    if request.people and setup.fit is not None:
        _keep_pictures(request, setup, setup.fit)
    if request.sound is not None and setup.sound is not None:
        _keep_sound(
            request.media,
            setup.scratch / request.sound,
            rate=setup.sound.mel.rate,
            before=setup.sound.window,
            last=request.last,
        )


def picture_side(setup: Setup) -> int:
    """Return the side of the pictures that are kept."""
    assert setup.fit is not None
    found = setup.faces == "detect" and setup.face.size < setup.fit.size
    return setup.face.size if found else setup.fit.size


def sound_samples(last: float, *, rate: int, before: float) -> int:
    """Return the samples that are kept of a video's sound, from `before` seconds before its first frame on."""
    return round((last + before) * rate) + 1


def kept(file: Path) -> np.ndarray:
    """Return what was kept in a file of the scratch folder, mapped into memory.

    Raises:
        MediaError: it is gone or damaged.
    """
    try:
        array_X: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        fault, remedy = "is gone from the scratch folder", "run the same command again: it decodes what is missing"
    except (OSError, ValueError, EOFError):
        fault, remedy = "is damaged in the scratch folder", "delete it, and run the same command again: it decodes it"
    else:
        return array_X
    raise MediaError(file, fault=fault, remedy=remedy)


def cut_sound(wave_L: Float32[np.ndarray, "_"], end: float, *, window: float, rate: int) -> Float32[np.ndarray, "L"]:
    """Return the window of a kept sound that ends at `end` seconds; a sound of no samples is silence."""
    length = round(window * rate)
    cut_L = np.zeros(length, dtype=np.float32)
    # Kept sound starts a window before the first frame.
    first = round(end * rate)
    there_L = wave_L[max(0, first) : max(0, first + length)]
    cut_L[max(0, -first) :][: len(there_L)] = there_L
    return cut_L


def fit_pictures(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], fit: Fit) -> UInt8[np.ndarray, "N S S 3"]:
    """Return pictures as the encoder's squares, as the extraction makes them on a processor."""
    squares: list[np.ndarray] = []
    # Those of one size together, which takes half the time.
    for _, alike in groupby(pictures, key=lambda rgb_HWC: rgb_HWC.shape):
        image_NHWC = torch.from_numpy(np.stack(list(alike)))
        square_NSSC = fitted(image_NHWC, size=fit.size, resize=fit.resize, interpolation=fit.interpolation)
        squares.append(square_NSSC.numpy())
    return np.ascontiguousarray(np.concatenate(squares) if len(squares) > 1 else squares[0])


def _keep_pictures(request: Prepare, setup: Setup, fit: Fit) -> None:
    people = _people(request, setup)
    # In the order in which they are decoded: by frame, then by person.
    wanted = sorted(
        (frame, number, row) for number, person in enumerate(request.people) for row, frame in enumerate(person.frames)
    )
    index_N, person_N = (np.array([item[axis] for item in wanted], dtype=np.int64) for axis in (0, 1))
    side = picture_side(setup)
    with ExitStack() as files:
        kept = [
            _mapped(
                files.enter_context(published(setup.scratch / person.file)),
                dtype=np.uint8,
                shape=(len(person.frames), side, side, 3),
            )
            for person in request.people
        ]
        count = 0
        for picture, (frame, number, row) in zip(
            chosen_pictures(request.media, index_N - 1, person_N, people, setup.face), wanted, strict=False
        ):
            _require_same_time(request.media, picture.time, request.people[number].times[row], frame)
            small = picture.rgb_HWC.shape == (side, side, 3)
            kept[number][row] = picture.rgb_HWC if small else fit_pictures([picture.rgb_HWC], fit)[0]
            count += 1
        if count < len(wanted):
            raise _other_file(request.media, f"ends before frame {wanted[count][0]}")
        for pictures_MSSC in kept:
            pictures_MSSC.flush()


def _people(request: Prepare, setup: Setup) -> Sequence[Found | None]:
    if setup.faces != "detect":
        return [None] * len(request.people)
    found = find_faces(request.media, CenterFace(), setup.face)
    videos = tuple(
        Video(name, split="train", media=request.media, crops=None, annotation=None) for name in request.sharing
    )
    together = Dataset("shared", "affwild2", request.media.parent, "detect", videos)
    by_name = {video.name: video for video in videos}
    return [whose_face(by_name[person.name], together, found.people) for person in request.people]


def _keep_sound(media: Path, target: Path, *, rate: int, before: float, last: float) -> None:
    heard = has_audio(media)
    shape = (sound_samples(last, rate=rate, before=before) if heard else 0,)
    with published(target) as aside:
        if not heard:
            np.save(aside, np.zeros(shape, dtype=np.float32))
            return
        wave_L = _mapped(aside, dtype=np.float32, shape=shape)
        offset = round(before * rate)
        for position, piece_L in sound_pieces(media, rate=rate):
            first = max(0, position + offset)
            there_L = piece_L[first - position - offset :]
            wave_L[first : first + len(there_L)] = there_L[: max(0, len(wave_L) - first)]
            if position + offset > len(wave_L):
                break
        wave_L.flush()


def _mapped(aside: Path, *, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    array_X = np.lib.format.open_memmap(aside, mode="w+", dtype=dtype, shape=shape)
    # Others may have filled the disk since it was asked: a map of what has no room there ends its process.
    with aside.open("rb+") as file:
        reserve(file.fileno(), aside.stat().st_size)
    return array_X


def _require_same_time(media: Path, time: float, known: float, frame: int) -> None:
    if abs(time - known) > SAME_TIME:
        raise _other_file(media, f"shows frame {frame} at {time:.3f} s, where the store has {known:.3f} s")


def _other_file(media: Path, fault: str) -> MediaError:
    return MediaError(
        media, fault=f"{fault}: it is not what the store was made of", remedy="give the data set that was extracted"
    )
