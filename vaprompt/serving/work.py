"""Inside the process that predicts: the run and its encoders, loaded once, for videos and for the live view.

One thread listens, one does the job, and a live view has two of its own (`live.py`). All of them answer through one
socket; `engine.py` is at its other end.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vaprompt.errors import HangError, MediaError, VapromptError
from vaprompt.extraction.decoder import Gone, receive, send
from vaprompt.prediction.predict import PredictedVideo, Predictor, load_predictor
from vaprompt.progress import Task
from vaprompt.report.footage import address, beside
from vaprompt.report.pages.page import write_page
from vaprompt.report.prediction_page import Download, prediction_page
from vaprompt.report.screening import screen
from vaprompt.serving.engine import Settings
from vaprompt.serving.live import LiveView
from vaprompt.serving.live_window import PICTURES_A_SECOND

EVERY = 0.1
"""Seconds from one message on progress to the next."""
CSV, PAGE = "prediction.csv", "page.html"
THE_VIDEO = "the video"
"""What a file is called in messages: the name that it is stored under says nothing."""


class Cancelled(Exception):  # noqa: N818 (as it was asked for)
    """The job is not wanted any more."""


def work(descriptor: int, settings: dict[str, Any]) -> None:
    """Load the run, and do what is asked through a socket until nobody asks any more."""
    with suppress(Gone, OSError), socket.socket(fileno=descriptor) as channel:
        Work(channel, Settings(**settings)).run()
    # What hangs in a decoder keeps nobody waiting.
    os._exit(0)


class Work:
    """Does what is asked."""

    def __init__(self, channel: socket.socket, settings: Settings) -> None:
        """Load nothing yet."""
        self._channel, self._settings = channel, settings
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._live: LiveView | None = None

    def run(self) -> None:
        """Load the run, then do what is asked.

        Raises:
            Gone: nobody is there any more.
        """
        try:
            predictor = load_predictor(
                Path(self._settings.run),
                faces=self._settings.faces,  # type: ignore[arg-type]  # the command line allows no other
                person=self._settings.person,  # type: ignore[arg-type]
                every=self._settings.every,
                device=self._settings.device,
                progress=_Loading(self.say),
            )
        except VapromptError as error:
            self.say({"failed": error.facts()})
            return
        self.say({"ready": facts(predictor)})
        threading.Thread(target=self._do_jobs, args=(predictor,), name="jobs", daemon=True).start()
        while True:
            message, arrays = receive(self._channel)
            self._asked(predictor, message, arrays["content"].tobytes() if arrays else b"")

    def say(self, message: dict[str, Any]) -> None:
        """Send a message; may be called by any thread."""
        with self._sending:
            send(self._channel, message)

    def _asked(self, predictor: Predictor, message: dict[str, Any], content: bytes) -> None:
        match message["do"]:
            case "predict":
                self._jobs.put(message)
            case "cancel":
                self._cancelled.add(message["job"])
            case "open":
                self._end_live()
                self._live = LiveView(predictor, message["live"], message["sound"], self.say)
            case "close":
                self._end_live()
            case "picture" | "sound" if self._live is not None and self._live.number == message["live"]:
                take = self._live.picture if message["do"] == "picture" else self._live.sound
                take(message["time"], content)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    def _do_jobs(self, predictor: Predictor) -> None:
        with suppress(OSError):  # nobody is there any more, and the process ends
            while True:
                message = self._jobs.get()
                job = message["job"]
                answer: dict[str, Any]
                try:
                    answer = {"result": self._predict(predictor, message)}
                except Cancelled:
                    answer = {"cancelled": True}
                except VapromptError as error:
                    line = _without_path(error, Path(message["media"]))
                    answer = {"error": line, "hung": isinstance(error, HangError)}
                except Exception as error:
                    traceback.print_exc()
                    answer = {"error": f"a fault in vaprompt itself: {type(error).__name__}; see where it was started"}
                self._cancelled.discard(job)
                self.say({"job": job, **answer})

    def _predict(self, predictor: Predictor, message: dict[str, Any]) -> dict[str, Any]:
        media, folder, job = Path(message["media"]), Path(message["folder"]), message["job"]
        seconds = predictor.duration(media)
        if seconds is not None and seconds > self._settings.seconds:
            raise _too_long(media, seconds, self._settings.seconds)
        progress = JobProgress(self, job, media)
        made = predictor.predict(media, folder / CSV, progress)
        page = folder / PAGE
        with progress.task("writing the page"):
            screening = screen(
                made,
                predictor.run.recipe.regions,
                beside(media, page),
                about={"run": predictor.run.path.absolute().name},
                downloads=[Download(video.csv.name, address(video.csv, page)) for video in made],
                name=message["title"],
            )
            write_page(prediction_page(screening), page)
        return described(made)

    def check(self, job: str, media: Path, reached: float) -> None:
        """Go on only if a job is still wanted, and not longer than it may be.

        Raises:
            Cancelled: it is not wanted.
            MediaError: it is too long, whatever its header said.
        """
        if job in self._cancelled:
            raise Cancelled
        if reached > self._settings.seconds:
            raise _too_long(media, reached, self._settings.seconds)


class JobProgress:
    """Tells the server how far a job is; see `vaprompt.progress.Progress`."""

    def __init__(self, work: Work, job: str, media: Path) -> None:
        """Begin."""
        self._work, self._job, self._media = work, job, media

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce a stage."""
        yield _JobTask(self, name.replace(self._media.name, THE_VIDEO), total, unit)

    def say(self, text: str) -> None:
        """Say nothing: what is to be said of a video comes with its result."""

    def tell(self, stage: str, done: float, total: int | float | None, unit: str) -> None:
        """Send how far a stage is."""
        self._work.say({"job": self._job, "stage": stage, "done": done, "total": total, "unit": unit})

    def check(self, seconds: float) -> None:
        """Go on only if the job is wanted and no longer than it may be."""
        self._work.check(self._job, self._media, seconds)


class _JobTask:
    def __init__(self, progress: JobProgress, name: str, total: int | float | None, unit: str) -> None:
        self._progress, self._name, self._total, self._unit = progress, name, total, unit
        self._done = 0.0
        self._told = -EVERY
        self.advance(0)

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        self._done += amount
        self._progress.check(self._done if self._unit == "s" else 0.0)
        now = time.monotonic()
        if now - self._told >= EVERY:
            self._told = now
            self._progress.tell(self._name, self._done, self._total, self._unit)


class _Loading:
    """Tells the server which parts are loaded."""

    def __init__(self, say: Any) -> None:
        self._say = say

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        self._say({"loading": "heads"})
        yield _LoadingTask(self._say)

    def say(self, text: str) -> None:
        """Say nothing."""


class _LoadingTask:
    def __init__(self, say: Any) -> None:
        self._say = say

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        self._say({"loading": note})


def facts(predictor: Predictor) -> dict[str, Any]:
    """Return what a page says of the run."""
    run = predictor.run
    return {
        "run": run.path.absolute().name,
        "notes": predictor.notes(whole=predictor.detector is None),
        "faces": predictor.detector is not None,
        "pictures": predictor.seeing is not None,
        "window": run.recipe.window.seconds,
        "phrases": list(run.recipe.regions.phrases),
        "centres": run.recipe.regions.centres_K2().tolist(),
        "rate": PICTURES_A_SECOND,
        "device": run.device,
    }


def described(made: list[PredictedVideo]) -> dict[str, Any]:
    """Return what is said of a result."""
    notes = list(dict.fromkeys(note for video in made for note in video.notes))
    return {
        "frames": len(made[0].time_F),
        "seconds": float(made[0].time_F[-1]),
        "people": len(made),
        "interpolation": made[0].interpolation,
        "notes": notes,
        "mean": [[float(mean) for mean in video.value_F2.mean(axis=0)] for video in made],
    }


def _without_path(error: VapromptError, media: Path) -> str:
    """Return an error's line; where the file lies is nobody's business."""
    line = str(error).removeprefix(f"{media}: ")
    return line.replace(str(media), THE_VIDEO).replace(str(media.parent), "its folder")


def _too_long(media: Path, seconds: float, most: float) -> MediaError:
    fault = f"lasts {seconds:.0f} s or more; {most:.0f} s are allowed"
    return MediaError(media, fault=fault, remedy="cut it into pieces, or start the server with more --max-minutes")
