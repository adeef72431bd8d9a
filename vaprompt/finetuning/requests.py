"""What a fine-tuning and its loading processes tell each other: JSON, checked at the end that receives it.

Nothing that a process is sent is executed, and no object is pickled: a line of JSON goes in, a line of JSON and the
bytes of arrays come out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote_to_bytes

import numpy as np
from pydantic import Field, PlainSerializer, PlainValidator

from vaprompt.faces.recipe import FaceRecipe
from vaprompt.finetuning.recipe import AugmentationRecipe
from vaprompt.media.recipes import DecibelRecipe, LogMelRecipe
from vaprompt.recipes import Recipe


def _quoted(path: Path) -> str:
    return quote(os.fsencode(path))


def _unquoted(path: Path | str) -> Path:
    return path if isinstance(path, Path) else Path(os.fsdecode(unquote_to_bytes(path)))


Place = Annotated[Path, PlainValidator(_unquoted), PlainSerializer(_quoted, when_used="json")]
"""A path; JSON holds text alone, and a file's name may be any bytes."""


class Fit(Recipe):
    """How pictures become the image encoder's squares; as in an image fingerprint."""

    size: int
    resize: str
    interpolation: str


class Sound(Recipe):
    """What the audio encoder hears."""

    window: float
    """Seconds of sound in one window."""
    mel: LogMelRecipe | DecibelRecipe
    """How it becomes a picture."""


class Setup(Recipe):
    """What all that a loading process does has in common."""

    scratch: Place
    """The folder that what is decoded once is kept in."""
    faces: Literal["crops", "frames", "detect"]
    """What the pictures are: numbered files on disk, whole frames, or faces yet to be found in those."""
    face: FaceRecipe
    fit: Fit | None
    """None: pictures are not looked at."""
    sound: Sound | None
    """None: sound is not listened to."""
    augmentation: AugmentationRecipe


class Person(Recipe):
    """One annotated person whose pictures are to be kept."""

    name: str
    frames: tuple[int, ...]
    """1-based, ascending."""
    times: tuple[float, ...]
    """When these frames are shown, in seconds: checked, as another file could bear the same name."""
    file: str
    """Where they are kept, in the scratch folder."""


class Prepare(Recipe):
    """Decode a media file once, and keep what windows need of it."""

    do: Literal["prepare"] = "prepare"
    media: Place
    people: tuple[Person, ...] = ()
    """Everybody in it whose pictures are missing."""
    sharing: tuple[str, ...] = ()
    """All annotated people in this file, which tells who is the left one."""
    sound: str | None = None
    """Where its sound is to be kept, in the scratch folder; None: it is there, or not needed."""
    last: float = 0.0
    """Time of the last frame, in seconds: sound is needed up to there."""


class Load(Recipe):
    """Read one window."""

    do: Literal["load"] = "load"
    crops: Place | None = None
    """The folder of the person's crops; None: pictures are in the scratch folder."""
    pictures: str | None = None
    """The file of the pictures in the scratch folder; None: they are crops, or not looked at."""
    frames: tuple[int, ...] = ()
    """Numbers of the crops (1-based), or rows of the pictures' file (from 0)."""
    sound: str | None = None
    """The sound's file in the scratch folder; None: sound is not listened to."""
    end: float = 0.0
    """When the sound's window ends, in seconds."""
    seed: tuple[int, ...] | None = None
    """Of the augmentation; None: the window is left as it is."""


class Asked(Recipe):
    """A request, of whichever kind."""

    request: Annotated[Prepare | Load, Field(discriminator="do")]


class Answer(Recipe):
    """What comes back, before the bytes of the arrays."""

    shapes: tuple[tuple[int, ...], ...] = ()
    """Of the window's pictures (bytes) and of its sound's picture (float32), as far as they are wanted."""
    error: tuple[str, str, str, str] | None = None
    """A fault of the user's files: the error's name, where, what, and what to do."""
    bug: str | None = None
    """A fault of ours: the traceback."""


def as_bytes(array: np.ndarray) -> memoryview:
    """Return an array's own memory, to be sent or filled."""
    view: Any = array
    return memoryview(view).cast("B")
