"""Writes pictures and sound into a media file, interleaved, one at a time.

Axes: H, W picture; L sound samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.audio
import numpy as np
from jaxtyping import Float32, UInt8

from vaprompt.datasets.synthetic.voice import RATE

TICKS = 90000
"""Ticks a second of the time stamps where the frame rate varies."""


def write_media(
    target: Path,
    *,
    pictures: Iterable[tuple[float, UInt8[np.ndarray, "H W 3"]]],
    size: tuple[int, int],
    rate: Fraction,
    variable: bool,
    wave_L: Float32[np.ndarray, "L"] | None,
    fine_audio: bool,
) -> None:
    """Encode a video: H.264 and AAC in an mp4, MPEG-4 part 2 and PCM in an avi, by the target's suffix.

    Args:
        target: the file to write.
        pictures: time in seconds and picture, in order.
        size: width and height of the pictures.
        rate: frames a second; the nominal rate where it varies.
        variable: whether pictures keep their own times; else they follow one another at `rate`.
        wave_L: sound at 16 kHz mono; None leaves the file without an audio track.
        fine_audio: store the sound as 44.1 kHz stereo.
    """
    avi = target.suffix == ".avi"
    with av.open(str(target), "w") as container:
        video = container.add_stream("mpeg4" if avi else "libx264", rate=rate)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        # One thread, so that the same pictures give the same stream on any machine.
        video.codec_context.thread_count = 1
        if avi:
            video.bit_rate = 1_000_000
        else:
            video.options = {"preset": "ultrafast", "crf": "21"}
        base = Fraction(1, TICKS) if variable else 1 / rate
        video.codec_context.time_base = base
        sound: av.AudioStream | None = None
        chunks: Iterator[av.AudioFrame] = iter(())
        if wave_L is not None:
            # Plain samples in the avi: a codec with a run-in would make the muxer move the pictures against it.
            sound = container.add_stream("pcm_s16le" if avi else "aac", rate=44100 if fine_audio else RATE)
            sound.codec_context.layout = "stereo" if fine_audio else "mono"
            sound.codec_context.open()
            chunks = _chunks(wave_L, sound.codec_context)
        pending = next(chunks, None)
        for index, (time, rgb_HWC) in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
            frame.time_base = base
            frame.pts = round(time * TICKS) if variable else index
            container.mux(video.encode(frame))
            while sound is not None and pending is not None and (pending.time or 0.0) <= time:
                container.mux(sound.encode(pending))
                pending = next(chunks, None)
        container.mux(video.encode(None))
        if sound is not None:
            while pending is not None:
                container.mux(sound.encode(pending))
                pending = next(chunks, None)
            container.mux(sound.encode(None))


def _chunks(wave_L: Float32[np.ndarray, "L"], codec: av.AudioCodecContext) -> Iterator[av.AudioFrame]:
    """Yield the sound in pieces of the codec's size, in its rate, layout and sample format."""
    resampler = av.AudioResampler(
        format=codec.format, layout=codec.layout, rate=codec.sample_rate, frame_size=codec.frame_size or 1024
    )
    for start in range(0, len(wave_L), RATE):
        piece_L = np.ascontiguousarray(wave_L[None, start : start + RATE])
        frame = av.AudioFrame.from_ndarray(piece_L, format="flt", layout="mono")
        frame.sample_rate = RATE
        frame.time_base = Fraction(1, RATE)
        frame.pts = start
        yield from resampler.resample(frame)
    yield from resampler.resample(None)
