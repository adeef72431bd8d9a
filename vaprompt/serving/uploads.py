"""Receiving a video: bounded in size and time, refused by its first bytes if it is none, gone if it does not end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vaprompt.serving.kinds import CONTENT_TYPES, HEAD, Kind, kind_of, suffixes
from vaprompt.serving.limits import Limits, Refusal
from vaprompt.serving.workplace import Room

PIECE = 2**20
"""Bytes that are written at once."""


@dataclass(frozen=True)
class Received:
    """A video that is whole."""

    path: Path
    bytes: int
    kind: Kind


def check_head(content_type: str | None, encoding: str | None, stated: str | None, limits: Limits) -> int | None:
    """Return the length that an upload states; None where it states none.

    Raises:
        Refusal: by what it says of itself it is too long, packed, or no video.
    """
    if encoding not in (None, "", "identity"):
        raise Refusal(415, f"is sent packed ({encoding[:40]}); send the file as it is")
    kind = "" if content_type is None else content_type.partition(";")[0].strip().lower()
    if kind and not kind.startswith(CONTENT_TYPES):
        raise Refusal(415, f"is sent as {kind[:60]}; send the video itself, as application/octet-stream")
    if stated is None:
        return None
    # h11 has refused what is no number, or stands there twice.
    length = int(stated)
    if length > limits.bytes:
        raise Refusal(413, too_large(limits))
    if length == 0:
        raise Refusal(400, "is empty")
    return length


def too_large(limits: Limits) -> str:
    """Return the sentence for a video of too many bytes."""
    return f"has more than the {limits.bytes / 1e6:,.0f} MB that are allowed (--max-megabytes)"


async def receive(
    chunks: AsyncIterator[bytes], folder: Path, room: Room, limits: Limits, stated: int | None = None
) -> Received:
    """Write what comes to `folder`, under a name of our own, and return it when it is whole.

    Args:
        chunks: what is sent.
        folder: exists, and holds nothing else.
        room: where the bytes are accounted for; they are given back where nothing is received.
        limits: what is taken at most.
        stated: the length that the sender announced.

    Raises:
        Refusal: it is too large, too slow or no video, or the disk is full.
        Exception: what `chunks` raises, for example when the sender is gone.
    """
    target, taken, kind = folder / "upload", 0, None
    pending = bytearray()
    try:
        # The whole at once, so that many that come together do not all begin and none can end.
        if stated is not None:
            room.take(stated)
            taken = stated
        received = 0
        with target.open("xb") as file:
            async with aclosing(_steady(chunks, limits)) as pieces:
                async for chunk in pieces:
                    received += len(chunk)
                    if received > limits.bytes:
                        raise Refusal(413, too_large(limits))
                    if received > taken:
                        room.take(received - taken)
                        taken = received
                    pending += chunk
                    if kind is None and len(pending) >= HEAD:
                        kind = _required_kind(pending, limits)
                    if len(pending) >= PIECE:
                        await _write(file, pending)
            kind = kind or _required_kind(pending, limits)
            await _write(file, pending)
        if stated is not None and received != stated:
            raise Refusal(400, f"ended after {received} of {stated} bytes")
        path = target.rename(folder / f"video{kind.suffix}")
        return Received(path, received, kind)
    except BaseException as error:
        target.unlink(missing_ok=True)
        room.give(taken)
        # Of opening, writing or closing: a file that is closed writes what it still holds back.
        if isinstance(error, OSError):
            raise Refusal(507, f"cannot be stored here ({error.strerror})") from None
        raise


async def drain(chunks: AsyncIterator[bytes], limits: Limits) -> None:
    """Read on for a moment what is refused, so that its sender comes to read why."""
    with suppress(Exception):
        async with asyncio.timeout(limits.linger):
            async for _ in chunks:
                pass


def _required_kind(head: bytes | bytearray, limits: Limits) -> Kind:
    kind = kind_of(bytes(head[:HEAD]), sound=limits.sound)
    if kind is None:
        what = "video or sound" if limits.sound else "video"
        listed = suffixes(sound=limits.sound).replace(",", " ")
        raise Refusal(415, f"is no {what} that is read here; those are {listed}")
    return kind


async def _write(file: BinaryIO, pending: bytearray) -> None:
    await asyncio.to_thread(file.write, bytes(pending))
    pending.clear()


async def _steady(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield what comes, as long as it does not come at a snail's pace.

    Raises:
        Refusal: it does.
    """
    loop = asyncio.get_running_loop()
    due, brought = loop.time() + limits.patience, 0
    iterator = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout_at(due):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal(
                408, f"brought less than {limits.least} bytes in {limits.patience:g} s; send it again"
            ) from None
        brought += len(chunk)
        if brought >= limits.least:
            due, brought = loop.time() + limits.patience, 0
        yield chunk
