"""Processes that decode media for the threads of this one, where Python's lock would keep an accelerator waiting.

They are started when they are needed, wait for the next video when they are done with one, and end with this process,
however it ends. One that crashes or hangs over a file costs that file's video only, and one that dies or hangs while
it starts or waits, as where memory runs short, costs none.
"""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Generator
from typing import Any

from vaprompt.children import out_of_interrupts_reach
from vaprompt.errors import MediaError, VapromptError, remade
from vaprompt.extraction.decoder import LENGTH, Gone, receive
from vaprompt.extraction.decoding import Arrays, Wanted
from vaprompt.media.patience import patience

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vaprompt.extraction.decoder import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)
STARTING = 120.0
"""Seconds that a process may take to start, on a machine that is busy with starting many."""
TRIES = 3
"""Processes that may be started in vain, one after the other, for one thing that is wanted."""
CONVERT = "convert the file, or exclude the video"
ALONE = "see what it printed above, or decode in this process with VAPROMPT_DECODERS=0"


class _NotTaken(Exception):  # noqa: N818 (another process may do it)
    """A process has not come to what it was asked for."""


class Decoders:
    """As many processes as threads ask for something at once."""

    def __init__(self, threads: int = 1) -> None:
        """Start nothing yet; each process may use so many threads to decode a video."""
        self._threads, self._changing = threads, threading.Lock()
        self._all: list[_Decoder] = []
        self._idle: list[_Decoder] = []
        # Also when the program ends, or forgets this.
        self._end = weakref.finalize(self, _end, self._all)

    def start(self, count: int) -> None:
        """Have so many processes, those that are there included, without waiting until they can decode."""
        with self._changing:
            # The next is taken from the end: those that were there first.
            while len(self._all) < count:
                self._all.append(_Decoder(self._threads))
                self._idle.insert(0, self._all[-1])

    @property
    def processes(self) -> list[int]:
        """Their numbers in the system."""
        with self._changing:
            return [decoder.process.pid for decoder in self._all]

    def stretches(self, wanted: Wanted) -> Generator[Arrays]:
        """Yield what `wanted` decodes, from another process.

        Raises:
            MediaError: something cannot be decoded; or the process crashed or hung over it.
        """
        decoder = self._taken(wanted)
        try:
            yield from decoder.answer(wanted)
        except BaseException:
            # Given up, or in mid-answer: it is of no use any more.
            if not decoder.idle:
                self._dismiss(decoder)
            raise
        finally:
            if decoder.idle:
                with self._changing:
                    self._idle.append(decoder)

    def close(self) -> None:
        """End the processes; nobody may be waiting for one."""
        with self._changing:
            _end(self._all)
            self._idle.clear()

    def _taken(self, wanted: Wanted) -> _Decoder:
        """Return the process that has taken on what is wanted: one that waits and still lives, or a new one.

        Raises:
            VapromptError: none can be started.
        """
        futile = 0
        while True:
            with self._changing:
                waited = bool(self._idle)
                decoder = self._idle.pop() if waited else _Decoder(self._threads)
                if not waited:
                    self._all.append(decoder)
            try:
                decoder.ask(wanted)
                return decoder
            except _NotTaken as error:
                self._dismiss(decoder)
                # Memory that runs short for a moment may end one that has just been started, but not one after another.
                futile += not waited
                if futile == TRIES:
                    raise VapromptError(None, fault=f"a process for decoding {error}", remedy=ALONE) from None
            except BaseException:
                self._dismiss(decoder)
                raise

    def _dismiss(self, decoder: _Decoder) -> None:
        with self._changing:
            if decoder in self._all:
                self._all.remove(decoder)
        decoder.end()


def _end(all_of_them: list[_Decoder]) -> None:
    while all_of_them:
        all_of_them.pop().end()


class _Decoder:
    """One process, as it is seen from here."""

    def __init__(self, threads: int) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", START, json.dumps(sys.path), str(theirs.fileno()), str(threads)]
            try:
                with out_of_interrupts_reach():
                    self.process = subprocess.Popen(  # noqa: S603 (nothing in it comes from outside)
                        command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                    )
            except OSError as error:  # as when no more processes are allowed
                self._channel.close()
                fault = f"a process for decoding cannot be started ({error.strerror or error})"
                raise VapromptError(None, fault=fault, remedy=ALONE) from None
        self.started = False
        """It has said that it is there."""
        self.idle = True
        """Nothing is asked of it."""

    def ask(self, wanted: Wanted) -> None:
        """Have it take on what is wanted.

        Raises:
            _NotTaken: it has ended, or hangs; what is wanted is not to blame.
        """
        self.idle = False
        asked = pickle.dumps(wanted)
        try:
            if not self.started:
                self._channel.settimeout(STARTING)
                self._told()
                self.started = True
            # It looks after decoders that hang by itself; this is for one that hangs as a whole.
            self._channel.settimeout(2 * patience())
            self._channel.sendall(LENGTH.pack(len(asked)) + asked)
            self._told()
        except (Gone, ConnectionError):
            state = "ended before it had anything to do" if self.started else "does not start"
            raise _NotTaken(f"{state} (exit code {self.process.wait()})") from None
        except TimeoutError:
            raise _NotTaken(f"has given {self._silence()}") from None

    def answer(self, wanted: Wanted) -> Generator[Arrays]:
        """Yield what it decodes of what it has taken on."""
        try:
            while True:
                message, arrays = self._told()
                if arrays:
                    yield arrays
                    continue
                self.idle = True
                if "end" in message:
                    return
                raise _error(message)
        except Gone:
            fault = f"the process that decoded it ended by itself (exit code {self.process.wait()})"
            raise MediaError(wanted.media, fault=fault, remedy=CONVERT) from None
        except TimeoutError:
            fault = f"the process that decodes it has given {self._silence()}"
            raise MediaError(wanted.media, fault=fault, remedy=CONVERT) from None

    def _told(self) -> tuple[dict[str, Any], Arrays]:
        """Return the next message that is more than a sign of life, and its arrays."""
        while True:
            message, arrays = receive(self._channel)
            if "alive" not in message:
                return message, arrays

    def _silence(self) -> str:
        return f"no sign of life for {self._channel.gettimeout():g} s"

    def end(self) -> None:
        self._channel.close()
        self.process.kill()
        self.process.wait()


def _error(message: dict[str, Any]) -> Exception:
    if "bug" in message:
        return RuntimeError(f"a process for decoding failed:\n{message['bug']}")
    return remade(message)
