"""A process that extracts on one accelerator, for the one that hands out videos; see `device_engine`.

They tell each other through a socket: it is sent its work, then jobs, then None; it sends what `Message` lists.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

from vaprompt import __version__
from vaprompt.errors import VapromptError
from vaprompt.extraction.plan import Job
from vaprompt.extraction.worker import MOST_HANDS, Worker

Message = (
    tuple[Literal["begun"], dict[str, Any]]  # where it works, and how many videos to give at once
    | tuple[Literal["over"], str, str | None]  # a video, and the reason if it failed
    | tuple[Literal["speed"], dict[str, Any]]  # see `stages.Meter.summary`
    | tuple[Literal["error"], VapromptError]  # what is no video's fault
    | tuple[Literal["bug"], str]  # a traceback
)
TELL = 2.0
"""Seconds after which it says again how fast it is."""


def serve(descriptor: int) -> None:
    """Do what one process does, until it is told to end or the other process has ended."""
    connection, sending = Connection(descriptor), threading.Lock()

    def tell(message: Message) -> None:
        with sending, suppress(OSError):  # whoever listened is gone, which is found out where jobs are received
            connection.send(message)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except VapromptError as error:
            tell(("error", error))
        except BaseException:
            tell(("bug", traceback.format_exc()))

    def do(job: Job) -> None:
        tell(("over", job.video.name, worker.extract_video(job)))

    def tell_speed() -> None:
        while not ended.wait(TELL):
            summary = worker.summary()
            if summary is not None:
                tell(("speed", summary))

    work, cores = _received(connection)
    worker, ended = Worker(work, __version__, cores), threading.Event()
    guarded(lambda: tell(("begun", worker.begin())))
    threading.Thread(target=tell_speed, name="speed", daemon=True).start()
    with ThreadPoolExecutor(MOST_HANDS, thread_name_prefix="video") as videos:
        while (job := _received(connection)) is not None:
            videos.submit(guarded, partial(do, job))
    ended.set()
    worker.end()


def _received(connection: Connection) -> Any:
    """Return what the other process sends; where it has ended, this one ends at once, as after a kill."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        os._exit(1)
