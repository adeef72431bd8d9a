"""The loading processes of a fine-tuning, seen by who trains: requests in, windows out, in order, in bounded memory.

Each process holds one window and works on the next; one thread here collects what they have made, a few windows ahead
of training. They are started anew (nothing is forked), speak JSON and bytes through pipes, need no shared memory, and
end when the one that started them does, however that ends.

Axes: T pictures of a window, S their side, F columns of the sound's picture, M mel bins.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from io import BufferedReader
from types import TracebackType
from typing import IO

import numpy as np

from vaprompt.children import out_of_interrupts_reach
from vaprompt.errors import DatasetError, DetectorError, MediaError, TargetError, VapromptError
from vaprompt.finetuning.loading import RawWindow
from vaprompt.finetuning.requests import Answer, Load, Prepare, Setup, as_bytes
from vaprompt.media.ahead import ahead

DEPTH = 2
"""Requests that a process has at most: one at work, one in its pipe."""
AHEAD = 8
"""Windows collected before they are asked for: 3.5 MB each at the paper's sizes."""
PIPE_BYTES = 2**20
"""What a pipe holds, where the system allows it: fewer changes between the processes."""
_KINDS = {kind.__name__: kind for kind in (DatasetError, DetectorError, MediaError, TargetError)}


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: BufferedReader

    @classmethod
    def start(cls, setup: Setup) -> _Worker:
        reading, writing = os.pipe()
        with suppress(OSError, AttributeError):  # a wish: Linux alone has it, and limits it
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            with out_of_interrupts_reach():
                process = subprocess.Popen(  # noqa: S603 (ourselves)
                    [sys.executable, "-m", "vaprompt.finetuning.worker", str(writing)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(writing,),
                    env=_environment(),
                )
        finally:
            os.close(writing)
        assert process.stdin is not None
        worker = cls(process, process.stdin, os.fdopen(reading, "rb"))
        worker.send(setup)
        return worker

    def send(self, message: Setup | Prepare | Load) -> None:
        with suppress(BrokenPipeError):  # told by the answer that does not come
            self.requests.write(message.model_dump_json().encode() + b"\n")
            self.requests.flush()

    def answer(self) -> tuple[Answer, list[np.ndarray]]:
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        answer = Answer.model_validate_json(line)
        if answer.bug is not None:
            raise RuntimeError(f"a loading process failed:\n{answer.bug}")
        if answer.error is not None:
            kind, where, fault, remedy = answer.error
            raise _KINDS.get(kind, VapromptError)(where or None, fault=fault, remedy=remedy)
        arrays = []
        for shape in answer.shapes:
            array = np.empty(shape, dtype=np.uint8 if len(shape) == 4 else np.float32)
            if self.answers.readinto(as_bytes(array)) < array.nbytes:
                raise self._ended()
            arrays.append(array)
        return answer, arrays

    def stop(self) -> None:
        for pipe in (self.requests, self.answers):
            with suppress(OSError):
                pipe.close()
        self.process.terminate()
        self.process.wait()

    def _ended(self) -> VapromptError:
        code = self.process.wait()
        reason = f"by signal {-code}" if code < 0 else f"with code {code}"
        return VapromptError(
            None,
            fault=f"a loading process ended {reason}, for which the lack of memory is the usual reason",
            remedy="give fewer with --workers, and run the same command again: it goes on",
        )


def _environment() -> dict[str, str]:
    """Return a process's environment: one thread, no accelerator, and modules from where this process has them."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}


class Workers:
    """Processes that read raw media; use as a context manager."""

    def __init__(self, setup: Setup, count: int) -> None:
        """Start `count` of them."""
        self._setup = setup
        self._workers: list[_Worker] = []
        try:
            for _ in range(count):
                self._workers.append(_Worker.start(setup))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def windows(self, requests: Iterable[Load]) -> Generator[RawWindow]:
        """Yield the windows asked for, in the order of the requests; close it to ask for others.

        Raises:
            MediaError: a crop or a file of the scratch folder is missing or cannot be read.
            VapromptError: a process was ended from outside.
        """
        with closing(ahead(self._answers(requests), AHEAD)) as answers:
            for arrays in answers:
                pictures = [array for array in arrays if array.ndim == 4]
                spectrograms = [array for array in arrays if array.ndim == 2]
                yield RawWindow(pictures[0] if pictures else None, spectrograms[0] if spectrograms else None)

    def prepare(self, requests: Iterable[Prepare]) -> Iterator[None]:
        """Let media be decoded; yields whenever one more file is, in the order of the requests.

        Raises:
            MediaError: a file cannot be decoded, or is not the one that the store was made of.
            VapromptError: a process was ended from outside, or the scratch folder cannot be written.
        """
        for _ in self._answers(requests):
            yield None

    def _answers(self, requests: Iterable[Prepare | Load]) -> Iterator[list[np.ndarray]]:
        """Yield what comes back, in order: request k goes to process k modulo their number."""
        turn = 0
        waiting: deque[_Worker] = deque()
        try:
            for request in requests:
                if len(waiting) == DEPTH * len(self._workers):
                    yield waiting.popleft().answer()[1]
                worker = self._workers[turn % len(self._workers)]
                turn += 1
                worker.send(request)
                waiting.append(worker)
            while waiting:
                yield waiting.popleft().answer()[1]
        finally:
            # Who comes next must not get the answers to questions of before.
            while waiting:
                with suppress(VapromptError, RuntimeError):
                    waiting.popleft().answer()
