"""How a video looks on a screen: its picture's size, upright, the shape of its pixels, and when it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from vaprompt.errors import MediaError
from vaprompt.media.container import REPAIR, check_picture, opened, packets, pixel_aspect, video_stream
from vaprompt.media.patience import Pulse, patiently


@dataclass(frozen=True)
class Appearance:
    """A video's first frame, as it is to be shown."""

    width: int
    """Pixels from left to right, once the picture is upright."""
    height: int
    pixel_aspect: float
    """Width of a pixel over its height, upright; 1 mostly."""
    start: float
    """The container's own time of the frame, in seconds from the container's start or, if that is later, from 0."""
    codec: str
    """Of the picture, as FFmpeg calls it: h264, hevc, vp9, ..."""

    @property
    def shape(self) -> float:
        """Width over height as it is seen."""
        return self.width * self.pixel_aspect / self.height


def appearance(path: Path) -> Appearance:
    """Return how a video looks, from its first frame.

    Raises:
        MediaError: there is no frame that can be decoded.
    """

    def work(pulse: Pulse) -> Appearance:
        with opened(path) as container:
            stream = video_stream(container, path)
            begin = min(0.0, (container.start_time or 0) / av.time_base)
            aspect = pixel_aspect(stream)
            for packet in packets(container, stream, path, pulse):
                for decoded in packet.decode():
                    assert isinstance(decoded, av.VideoFrame)
                    check_picture(path, decoded.width, decoded.height)
                    width, height = decoded.width, decoded.height
                    if round(decoded.rotation / 90) % 2:
                        width, height, aspect = height, width, 1 / aspect
                    start = (decoded.time or 0.0) - begin
                    return Appearance(width, height, aspect, start, stream.codec_context.name)
        raise MediaError(path, fault="holds no frame that can be decoded", remedy=REPAIR)

    return patiently(path, work)
