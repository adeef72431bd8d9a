"""One video through the frozen encoders, for extraction and prediction alike.

Pictures and sound are decoded front to back, a batch ahead of the network, so that memory depends on the batch and
not on the video's length. All times are seconds from the first frame, by the container's time stamps.

Axes: B items of a batch, N encoded frames, W audio windows, S audio steps, D channels, F frames of the video,
L samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float64

from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.encoders.recipes import AudioEncoderRecipe
from vaprompt.extraction.batch_size import fixed
from vaprompt.extraction.grid import audio_ends
from vaprompt.extraction.handover import stored
from vaprompt.extraction.pictures import Picture, given_pictures, together
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.media.ahead import ahead
from vaprompt.media.audio import audio_tracks, audio_windows, has_audio
from vaprompt.media.video import frame_times
from vaprompt.store.features import AudioFeatures, ImageFeatures

BATCH_BYTES = 2**27
"""Large pictures go in smaller batches, so that a batch of decoded pictures never takes more memory than this."""

NO_SOUND = "no audio stream: silence"


@dataclass(frozen=True)
class MediaFeatures:
    """What the encoders made of one video."""

    image: ImageFeatures
    audio: AudioFeatures
    frame_time_F: Float64[np.ndarray, "F"]
    """Seconds of every decoded frame, also of those that were not encoded."""
    notes: list[str]
    """What the user should know of this video."""


def encode_media(
    media: Path,
    recipe: ExtractRecipe,
    image_encoder: ImageEncoder,
    audio_encoder: AudioEncoder,
    *,
    crops: Path | None = None,
) -> MediaFeatures:
    """Return the embeddings of a video's pictures and sound.

    Args:
        media: the file with picture and sound.
        recipe: how they are sampled.
        image_encoder: encodes the pictures.
        audio_encoder: encodes the sound.
        crops: folder of numbered face crops to encode in place of whole frames.

    Raises:
        MediaError: the video, or a crop, cannot be decoded; or there is not one crop.
    """
    times_F = known_times(media, recipe, crops)
    image = joined_image(list(image_batches(media, recipe, image_encoder, crops=crops, time_F=times_F)))
    times_F = image.time_N if times_F is None else times_F
    pieces = list(audio_batches(media, recipe.audio, audio_encoder, last=float(times_F[-1])))
    audio = AudioFeatures(
        np.concatenate([piece.embedding_WSD for piece in pieces]), np.concatenate([piece.end_W for piece in pieces])
    )
    return MediaFeatures(image, audio, times_F, sound_notes(media))


def known_times(media: Path, recipe: ExtractRecipe, crops: Path | None) -> Float64[np.ndarray, "F"] | None:
    """Return the times of all frames where they are needed before pictures are read.

    None where every frame is encoded anyway: a second pass of decoding is spared, as the pictures bring the times.

    Raises:
        MediaError: the video cannot be decoded.
    """
    return None if crops is None and recipe.image_rate == "all" else frame_times(media)


def sound_notes(media: Path) -> list[str]:
    """Return what is to be remarked about a video's sound.

    Raises:
        MediaError: the video cannot be opened.
    """
    tracks, read = audio_tracks(media)
    if not tracks:
        return [NO_SOUND]
    return [] if tracks == 1 else [f"{tracks} audio tracks: number {read} is heard"]


def image_batches(
    media: Path,
    recipe: ExtractRecipe,
    encoder: ImageEncoder,
    *,
    crops: Path | None,
    time_F: Float64[np.ndarray, "F"] | None,
) -> Iterator[ImageFeatures]:
    """Yield the embeddings of a video's pictures, batch by batch, frames ascending.

    Args:
        media: the video.
        recipe: which frames are encoded, and how many at once.
        encoder: the network.
        crops: folder of face crops to encode in place of whole frames.
        time_F: the times of all frames; None only for all whole frames.

    Raises:
        MediaError: a picture cannot be decoded, or there is not one.
        WeightsError: the network's values do not fit float16.
    """
    yield from encode_pictures(given_pictures(media, recipe.image_rate, crops, time_F), recipe, encoder)


def encode_pictures(
    pictures: Iterator[Picture], recipe: ExtractRecipe, encoder: ImageEncoder
) -> Iterator[ImageFeatures]:
    """Yield the embeddings of pictures, batch by batch, in their order; of one frame there may be several.

    Raises:
        MediaError: a picture cannot be decoded.
        WeightsError: the network's values do not fit float16.
    """
    for batch in ahead(together(pictures, most=fixed(recipe.image), most_bytes=BATCH_BYTES)):
        yield ImageFeatures(stored(encoder.encode(batch.rgb_NHWC), "image"), batch.frame_N, batch.time_N)


def audio_batches(
    media: Path | None, recipe: AudioEncoderRecipe, encoder: AudioEncoder, *, last: float
) -> Iterator[AudioFeatures]:
    """Yield the embeddings of a video's windows of sound, batch by batch, ends ascending; silence without sound.

    Args:
        media: the video; None: there is none, and so no sound.
        recipe: the grid of windows, and how many are encoded at once.
        encoder: the network.
        last: time of the video's last frame, in seconds.

    Raises:
        MediaError: the sound cannot be decoded.
        WeightsError: the network's values do not fit float16.
    """
    end_W = audio_ends(last, window=recipe.window, hop=recipe.hop)
    size = fixed(recipe)
    if media is None or not has_audio(media):
        # One silence is like another.
        silence_1L = torch.zeros(1, round(recipe.window * encoder.rate))
        silence_1SD = stored(encoder.encode(silence_1L), "audio")
        for start in range(0, len(end_W), size):
            end_B = end_W[start : start + size]
            yield AudioFeatures(np.repeat(silence_1SD, len(end_B), axis=0), end_B)
        return
    windows = audio_windows(media, end_W, window=recipe.window, rate=encoder.rate)
    done = 0
    for batch in ahead(_groups(windows, size)):
        embedding_BSD = encoder.encode(torch.from_numpy(np.stack(batch)))
        yield AudioFeatures(stored(embedding_BSD, "audio"), end_W[done : done + len(batch)])
        done += len(batch)


def joined_image(pieces: list[ImageFeatures]) -> ImageFeatures:
    """Return the batches of one video as one; there is at least one batch."""
    return ImageFeatures(
        np.concatenate([piece.embedding_ND for piece in pieces]),
        np.concatenate([piece.frame_N for piece in pieces]),
        np.concatenate([piece.time_N for piece in pieces]),
    )


Item = TypeVar("Item")


def _groups(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
