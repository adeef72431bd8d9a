"""The process that has the run and the encoders, as the server sees it.

It is asked through a socket, as decoders are (`vaprompt.extraction.decoder`), and started again where it ends by
itself, hangs, or does not stop what it is to stop. What it says is taken as plain values: it reads hostile files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaprompt.children import out_of_interrupts_reach
from vaprompt.errors import VapromptError, remade
from vaprompt.extraction.decoder import LENGTH
from vaprompt.progress import SILENT, Progress
from vaprompt.serving.jobs import JobError, Stage
from vaprompt.serving.limits import Limits, Refusal

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vaprompt.serving.work import work; work(int(sys.argv[2]), json.loads(sys.argv[3]))"
)
OBEY = 10.0
"""Seconds in which a job has to stop, once it is told to."""
BEHIND = 2**24
"""Bytes that may wait to be taken by the process; a live view that is further behind is ended."""
REMEMBERED = 32
"""Messages of the live view that wait to be sent to a page; older ones are dropped."""
LONGEST_MESSAGE = 2**24
GONE = "the process that predicts ended by itself"
LOG = logging.getLogger("vaprompt.serving")


PassOn = Callable[[dict[str, Any], bytes], Awaitable[None]]


@dataclass(frozen=True)
class Settings:
    """What the process is to load, and how it predicts."""

    run: str
    faces: str = "auto"
    person: str = "largest"
    every: int | None = None
    device: str = "auto"
    seconds: float = Limits.seconds
    """Longest video."""


class Live:
    """One live view: what is sent to the process, and what it answers."""

    def __init__(self, number: int, pass_on: PassOn) -> None:
        """Begin without any answers; `pass_on` sends."""
        self.number, self._pass_on = number, pass_on
        self._answers: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._came = asyncio.Event()
        self.over = False

    async def picture(self, time: float, content: bytes) -> None:
        """Send a jpg, taken at a time in seconds.

        Raises:
            Refusal: the process is too far behind.
        """
        await self._pass_on({"do": "picture", "live": self.number, "time": time}, content)

    async def sound(self, time: float, content: bytes) -> None:
        """Send mono samples of 16 bits, of which the first was heard at a time in seconds.

        Raises:
            Refusal: the process is too far behind.
        """
        await self._pass_on({"do": "sound", "live": self.number, "time": time}, content)

    async def answer(self) -> dict[str, Any] | None:
        """Return the next thing that the process says of this; None where it is over."""
        while not self._answers and not self.over:
            self._came.clear()
            await self._came.wait()
        return self._answers.popleft() if self._answers else None

    def said(self, message: dict[str, Any]) -> None:
        """Take an answer."""
        self._answers.append(message)
        self._came.set()

    def end(self) -> None:
        """Say that no more answers come."""
        self.over = True
        self._came.set()


@dataclass
class Asked:
    """One job that the process has been given."""

    answer: asyncio.Future[dict[str, Any]]
    tell: Callable[[Stage], None]
    begun: bool = False
    """Whether the process has said that it is at it."""


class Engine:
    """The process, and whoever waits for something from it."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet."""
        self._settings = settings
        self._starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._jobs: dict[str, Asked] = {}
        self._live: Live | None = None
        self._views = 0
        self._closed = False
        self.facts: dict[str, Any] = {}
        """What is to be said of the run."""

    @property
    def pid(self) -> int | None:
        """Its number in the system; None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self, progress: Progress = SILENT) -> None:
        """Start the process, unless it is there, and wait until the run is loaded.

        Raises:
            VapromptError: the run cannot be loaded.
        """
        async with self._starting:
            if self._process is not None or self._closed:
                return
            ours, theirs = socket.socketpair()
            with theirs:
                arguments = [json.dumps(sys.path), str(theirs.fileno()), json.dumps(asdict(self._settings))]
                with out_of_interrupts_reach():
                    process = subprocess.Popen(  # noqa: S603 (nothing in it comes from a page)
                        [sys.executable, "-c", START, *arguments],
                        pass_fds=(theirs.fileno(),),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                    )
            reader, writer = await asyncio.open_connection(sock=ours)
            try:
                with progress.task("loading the run", total=3, unit="parts") as task:
                    self.facts = await _ready(reader, process, lambda part: task.advance(1, part))
            except BaseException:
                writer.close()
                process.kill()
                process.wait()
                raise
            self._process, self._writer = process, writer
            self._listening = asyncio.create_task(self._listen(reader, process))

    async def predict(
        self, job: str, media: Path, folder: Path, title: str, tell: Callable[[Stage], None]
    ) -> dict[str, Any]:
        """Write a video's prediction into `folder`; see `Worker`."""
        message = {"do": "predict", "job": job, "media": str(media), "folder": str(folder), "title": title}
        answer = await self._asked(message, tell)
        if answer.get("unbegun"):
            # The process may have ended before it came to this video. Whatever ends it twice is not tried again.
            answer = await self._asked(message, tell)
        if answer.get("hung") and self._live is None:
            await self._kill()  # a decoder hangs in it, with what it holds
        if "result" not in answer:
            raise JobError(str(answer.get("error", GONE)))
        result: dict[str, Any] = answer["result"]
        return result

    async def _asked(self, message: dict[str, Any], tell: Callable[[Stage], None]) -> dict[str, Any]:
        """Give the process a job; return what it, or its end, makes of that.

        Raises:
            JobError: there is no process that it could be given.
        """
        tell(Stage("loading the run again" if self._process is None else "checking the video"))
        try:
            await self.start()
        except VapromptError as error:
            raise JobError(str(error)) from None
        if self._writer is None:
            raise JobError(GONE)
        job = message["job"]
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._jobs[job] = Asked(future, tell)
        try:
            with suppress(OSError):  # who listens to the process finds that it is gone
                await self._send(message)
            await asyncio.wait({future})
        except asyncio.CancelledError:
            await self._stop(job, future)
            raise
        finally:
            del self._jobs[job]
        return future.result()

    async def open_live(self, sound: int | None) -> Live:
        """Begin a live view, whose sound has so many samples a second.

        Raises:
            Refusal: there is one already, or the process does not start.
        """
        if self._live is not None:
            raise Refusal(503, "the live view is in use on another page; end it there first")
        self._views += 1
        live = self._live = Live(self._views, self._pass_on)
        try:
            await self.start()
            await self._send({"do": "open", "live": live.number, "sound": sound})
        except (VapromptError, OSError) as error:
            self._live = None
            raise Refusal(503, str(error)) from None
        except BaseException:
            self._live = None
            raise
        return live

    async def close_live(self, live: Live) -> None:
        """End a live view."""
        if self._live is live:
            self._live = None
            live.end()
            with suppress(OSError):
                await self._send({"do": "close", "live": live.number})

    async def _pass_on(self, message: dict[str, Any], content: bytes) -> None:
        """Send what came from the camera or the microphone.

        Raises:
            Refusal: the process is too far behind, or gone.
        """
        if self._writer is None:
            raise Refusal(503, GONE)
        if self._writer.transport.get_write_buffer_size() > BEHIND:
            raise Refusal(503, "the process that predicts does not keep up")
        await self._send(message, content)

    async def close(self) -> None:
        """End the process, whatever it is at."""
        self._closed = True
        await self._kill()

    async def _send(self, message: dict[str, Any], content: bytes | None = None) -> None:
        named = {} if content is None else {"content": ("|u1", (len(content),))}
        head = json.dumps({**message, "arrays": named}).encode()
        if self._writer is None:
            raise ConnectionError(GONE)
        self._writer.write(LENGTH.pack(len(head)) + head + (content or b""))
        await self._writer.drain()

    async def _stop(self, job: str, future: asyncio.Future[dict[str, Any]]) -> None:
        """Let go of a job; a process that goes on with it is ended."""
        with suppress(OSError):
            await self._send({"do": "cancel", "job": job})
        await asyncio.wait({future}, timeout=OBEY)
        if not future.done():
            await self._kill()

    async def _listen(self, reader: asyncio.StreamReader, process: subprocess.Popen[bytes]) -> None:
        """Hand on what the process says, until it is gone; then start another."""
        with suppress(asyncio.IncompleteReadError, OSError, ValueError):
            while True:
                self._heard(await _message(reader))
        process.kill()
        code = await asyncio.to_thread(process.wait)
        if self._process is process:
            self._gone(f"{GONE} (exit code {code})")
            try:
                await self.start()
            except VapromptError as error:
                LOG.error("%s", error)

    def _heard(self, message: dict[str, Any]) -> None:
        if "live" in message:
            if self._live is not None and self._live.number == message["live"]:
                self._live.said(message)
            return
        asked = self._jobs.get(message["job"])
        if asked is None or asked.answer.done():
            return
        if "stage" in message:
            asked.begun = True
            asked.tell(Stage(str(message["stage"]), float(message["done"]), message["total"], str(message["unit"])))
        else:
            asked.answer.set_result(message)

    def _gone(self, why: str) -> None:
        """Tell everybody who waits that the process is no more."""
        if self._writer is not None:
            self._writer.close()
        self._process = self._writer = self._listening = None
        for asked in self._jobs.values():
            if not asked.answer.done():
                error = f"{why}; convert the video, or leave it out"
                asked.answer.set_result({"error": error, "unbegun": not asked.begun})
        if self._live is not None:
            self._live.said({"live": self._live.number, "fault": why})
            self._live.end()
            self._live = None

    async def _kill(self) -> None:
        process, listening = self._process, self._listening
        if process is None:
            return
        self._gone("the process that predicts was ended")
        process.kill()
        if listening is not None:
            listening.cancel()
        await asyncio.to_thread(process.wait)


async def _message(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next message.

    Raises:
        IncompleteReadError, OSError: the process is no more.
        ValueError: it says what it should not.
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > LONGEST_MESSAGE:
        raise ValueError(length)
    message: dict[str, Any] = json.loads(await reader.readexactly(length))
    return message


async def _ready(
    reader: asyncio.StreamReader, process: subprocess.Popen[bytes], loading: Callable[[str], None]
) -> dict[str, Any]:
    """Return what a process says of the run, as soon as that is loaded."""
    while True:
        try:
            message = await _message(reader)
        except (asyncio.IncompleteReadError, OSError):
            code = await asyncio.to_thread(process.wait)
            raise VapromptError(
                None,
                fault=f"the process that predicts does not start (exit code {code})",
                remedy="see what it printed above; 'vaprompt doctor' looks at the installation",
            ) from None
        if "failed" in message:
            raise remade(message["failed"])
        if "loading" in message:
            loading(str(message["loading"]))
        if "ready" in message:
            ready: dict[str, Any] = message["ready"]
            return ready
