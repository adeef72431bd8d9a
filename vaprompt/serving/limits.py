"""What a server takes, and at most, so that its memory and its disk stay bounded whatever is sent to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    bytes: int = 2 * 10**9
    """Of one video."""
    seconds: float = 3600.0
    """Length of one video, by its header and by its frames."""
    uploads: int = 64
    """Videos that are received at once."""
    waiting: int = 100
    """Videos in the queue."""
    finished: int = 20
    """Results that are kept; the oldest go first."""
    held: int = 20 * 10**9
    """Bytes of all uploads together."""
    spare: int = 10**9
    """Bytes of the disk that are left free."""
    patience: float = 20.0
    """Seconds in which an upload has to bring something."""
    least: int = 20_000
    """Bytes that it has to bring in that time."""
    linger: float = 1.0
    """Seconds for which a refused upload is read on, as a browser that is cut off in mid-sending shows no answer."""
    listeners: int = 64
    """Pages that are told of progress at once."""
    silent: float = 20.0
    """Seconds from one question whether a live view's page is still there to the next, and for its answer."""
    picture: int = 2_000_000
    """Bytes of one message of the live view."""
    name: int = 200
    """Characters of a video's name that are kept."""
    sound: bool = False
    """Whether files of sound alone are taken, as they are for a run that only listens."""


class Refusal(Exception):  # noqa: N818 (nothing of ours went wrong)
    """Something is not taken: an HTTP status, and a sentence for who sent it."""

    def __init__(self, status: int, reason: str) -> None:
        """Say why."""
        self.status, self.reason = status, reason
        super().__init__(reason)
