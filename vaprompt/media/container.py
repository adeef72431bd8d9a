"""Opens media files so that only local media are ever read, and every fault ends in one line.

FFmpeg guesses formats from content: a text named `.mp4` could be a playlist that makes it fetch other files or
addresses. Only formats that hold their own picture and sound are allowed here, through the `file:` protocol.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vaprompt.errors import MediaError
from vaprompt.media.header import StatedEnd, duration, is_cut_off
from vaprompt.media.limits import (
    LARGEST_PICTURE,
    LONGEST_SIDE,
    LONGEST_VIDEO,
    MOST_CHANNELS,
    MOST_SAMPLES,
    MOST_UNEVEN,
    SOUND_RATES,
)
from vaprompt.media.patience import Pulse

FORMATS = ("mov", "mp4", "avi", "matroska", "webm", "mpegts", "mpeg", "flv", "asf", "ogg", "m4v", "mxf", "wav")
REPAIR = "check that it plays, or convert it with: ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4"
REWRITE = "convert it, which makes new time stamps: ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4"
COPY_AGAIN = "copy it again from where it came"

THREADS = 0
"""Threads that the decoder of a video may use; 0: as many as there are cores. Less where many are decoded at once."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file for reading and close it at the end.

    Faults that FFmpeg finds while the body of the `with` reads on become a `MediaError` too.

    Raises:
        MediaError: the file is missing, empty, no file, not media, cut off, or cannot be decoded.
    """
    size = file_size(path)
    with faults(path):
        if is_cut_off(path, size):
            raise cut_off(path)
        try:
            container = av.open(
                f"file:{path}",
                metadata_errors="replace",
                container_options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"},
            )
        except av.error.ArgumentError:  # what FFmpeg says of all other formats
            fault = f"cannot be opened as any of the formats that are read: {', '.join(FORMATS)}"
            raise MediaError(path, fault=fault, remedy=f"{REPAIR}, or sound alone to NEW.wav") from None
        with container:
            yield container


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what FFmpeg and PyAV raise over a file's content into a `MediaError`."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise MediaError(path, fault=f"cannot be decoded ({error.strerror})", remedy=REPAIR) from None
    except PermissionError:
        raise MediaError(path, fault="may not be read", remedy="change its permissions") from None
    except OSError as error:
        raise MediaError(path, fault=f"cannot be read ({error.strerror})", remedy=COPY_AGAIN) from None
    except MemoryError:
        raise MediaError(path, fault="does not fit into memory", remedy="scale the video down") from None
    except (ValueError, OverflowError, RuntimeError) as error:
        # PyAV's own checks, for example of a pixel format that it does not know, or a name that is no text.
        raise MediaError(path, fault=f"cannot be decoded ({error})", remedy=REPAIR) from None


def file_size(path: Path) -> int:
    """Return the bytes of a file that can be read; devices, pipes and sockets would never end.

    Raises:
        MediaError: there is none, or it is empty or something else.
    """
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(path, fault="there is no such file", remedy="check the path") from None
    except (OSError, ValueError) as error:  # a path with a zero in it is a ValueError
        fault = f"cannot be looked at ({getattr(error, 'strerror', error)})"
        raise MediaError(path, fault=fault, remedy="check the path and its permissions") from None
    if not stat.S_ISREG(state.st_mode):
        raise MediaError(path, fault="is not a file", remedy="name the file itself: no folder, pipe or device")
    if state.st_size == 0:
        raise MediaError(path, fault="is empty", remedy=COPY_AGAIN)
    return state.st_size


def has_moving_pictures(container: InputContainer) -> bool:
    """Say whether a file has moving pictures; the cover of a piece of music is none."""
    stream = container.streams.best("video")
    return stream is not None and not stream.disposition & Disposition.attached_pic


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the main video stream, its decoder set to use `THREADS`.

    Raises:
        MediaError: there is none, or it breaks a limit on pictures or length.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise MediaError(path, fault="has no video stream", remedy="give a file with moving pictures")
    _require_decoder(stream, path)
    check_picture(path, stream.codec_context.width, stream.codec_context.height)
    seconds = duration(stream, container)
    if seconds is not None and seconds > LONGEST_VIDEO:
        raise MediaError(
            path,
            fault=f"lasts {seconds:.0f} s by its header; the longest allowed are {LONGEST_VIDEO:.0f} s",
            remedy="cut it into pieces with: ffmpeg -i FILE -c copy -f segment -segment_time 3600 PIECE%03d.mp4, or, "
            "if that is not so, convert it",
        )
    stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
    # Pictures may grow inside a stream: the decoder then refuses before it makes room for them.
    stream.codec_context.options = {"max_pixels": str(LARGEST_PICTURE)}
    return stream


def _require_decoder(stream: VideoStream | AudioStream, path: Path) -> None:
    # PyAV's types do not say so, but a stream without a decoder has no context.
    if getattr(stream, "codec_context", None) is None:
        fault = f"has a {stream.type} stream of an unknown codec"
        raise MediaError(path, fault=fault, remedy=REPAIR)


def pixel_aspect(stream: VideoStream) -> float:
    """Return the width of a video's pixels over their height, as it is recorded; 1 mostly, 1.42 of wide PAL."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / MOST_UNEVEN <= aspect <= MOST_UNEVEN else 1.0


def check_picture(path: Path, width: int, height: int) -> None:
    """Refuse a picture that would take too much memory as it is, or once it is resized.

    Raises:
        MediaError: it is larger than 8192 x 8192 pixels, or much longer than it is wide.
    """
    if width * height > LARGEST_PICTURE:
        raise MediaError(path, fault=f"{width}x{height} exceeds 8192x8192", remedy="scale it down")
    if max(width, height) > LONGEST_SIDE * max(1, min(width, height)):
        fault = f"{width}x{height} is a strip; one side may have {LONGEST_SIDE} times the pixels of the other"
        raise MediaError(path, fault=fault, remedy="cut it to what it is to show")


def audio_stream(container: InputContainer, path: Path) -> AudioStream | None:
    """Return the main audio stream, or None where there is none.

    Raises:
        MediaError: its header states a rate or channels that no sound has.
    """
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        return None
    _require_decoder(stream, path)
    check_sound(path, stream.rate, stream.channels)
    stream.codec_context.options = {"max_samples": str(MOST_SAMPLES)}
    return stream


def check_sound(path: Path, rate: int, channels: int) -> None:
    """Refuse sound that would grow beyond measure when it is resampled.

    Raises:
        MediaError: its rate or its channels break a limit.
    """
    least, most = SOUND_RATES
    if not least <= rate <= most:
        fault = f"has sound of {rate} samples a second; allowed are {least} to {most}"
        raise MediaError(path, fault=fault, remedy=REPAIR)
    if not 1 <= channels <= MOST_CHANNELS:
        fault = f"has sound of {channels} channels; allowed are 1 to {MOST_CHANNELS}"
        raise MediaError(path, fault=fault, remedy="mix them down with: ffmpeg -i FILE -c:v copy -ac 2 NEW.mp4")


def packets(container: InputContainer, stream: Stream, path: Path, pulse: Pulse) -> Iterator[Packet[Stream]]:
    """Yield a stream's packets up to the file's end, and then the empty one that asks a decoder for the rest.

    The packets of other streams are read too: one that is sparse is no decoder that hangs, and where the file ends
    is known only from all of them.

    Raises:
        MediaError: the file is cut off, or a packet of the stream is damaged.
    """
    stated = StatedEnd(container, path)
    demuxed = _demuxed(container, path)
    for packet in demuxed:
        pulse()
        stated.passed(packet)
        if packet.stream.index != stream.index:  # the empty packets at the end have no index of their own
            continue
        if packet.is_corrupt:
            # Of a file that is cut off only the last packet is.
            if any(later.size and later.stream.index == stream.index for later in demuxed):
                raise _damaged(packet, path)
            raise cut_off(path)
        yield packet
    short = stated.short()
    if short is not None:
        raise MediaError(path, fault=f"is cut off: {short}", remedy=f"{COPY_AGAIN}; if it is whole, convert it")


def _demuxed(container: InputContainer, path: Path) -> Iterator[Packet[Stream]]:
    """Yield the packets of all streams.

    Raises:
        MediaError: a stream begins in mid-file that the header does not know, as in a damaged flv.
    """
    every = container.demux()
    while True:
        try:
            packet = next(every)
        except StopIteration:
            return
        except IndexError:  # PyAV looks the stream up among those that were there when the file was opened
            fault = "holds a stream that its header does not know"
            raise MediaError(path, fault=fault, remedy=f"{COPY_AGAIN}; if it is whole, convert it") from None
        yield packet


def _damaged(packet: Packet[Stream], path: Path) -> MediaError:
    start = packet.dts if packet.pts is None else packet.pts
    where = ""
    if start is not None and packet.time_base is not None:
        where = f" near its time stamp {float(start * packet.time_base):.2f} s"
    fault = f"is damaged: a part of its {packet.stream.type} is missing{where}"
    return MediaError(path, fault=fault, remedy=f"{COPY_AGAIN}; if it is so there, too, {REWRITE}")


def cut_off(path: Path) -> MediaError:
    """Return the error for a file whose end is missing."""
    return MediaError(path, fault="is cut off: its end is missing", remedy=COPY_AGAIN)
