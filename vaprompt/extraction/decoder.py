"""A process that only decodes, for another that feeds an accelerator: what it is asked for, and how it answers.

Python's lock lets one process read some three thousand face crops a second however many cores there are, fewer than
one accelerator encodes. So decoding is done by processes, each of which works for one thread of the other; they tell
each other of it through a socket. What is asked comes as a pickle from the process that started this one; what is
answered is JSON and plain numbers, as it comes from where hostile files are decoded.

A message is the length of a JSON object (8 bytes), the object, and behind it the content of the arrays that it names.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import threading
import time
import traceback
from contextlib import suppress
from typing import Any

import numpy as np

from vaprompt.errors import VapromptError
from vaprompt.extraction.decoding import Arrays, Wanted
from vaprompt.media import container
from vaprompt.media.ahead import ahead
from vaprompt.media.patience import patience

LENGTH = struct.Struct("<Q")
BEATS = 8
"""Signs of life that a process gives in the time that a decoder may take without progress."""


class Gone(Exception):  # noqa: N818 (it may well be as it should)
    """The other process is no more."""


def send(channel: socket.socket, message: Any, arrays: Arrays | None = None) -> None:
    """Send a message; `arrays` are contiguous.

    Raises:
        OSError: the other process is no more.
    """
    named = {name: (array.dtype.str, array.shape) for name, array in (arrays or {}).items()}
    head = json.dumps({**message, "arrays": named}).encode()
    channel.sendall(LENGTH.pack(len(head)) + head)
    for array in (arrays or {}).values():
        if array.nbytes:
            channel.sendall(array.data.cast("B"))


def receive(channel: socket.socket) -> tuple[Any, Arrays]:
    """Return the next message and its arrays.

    Raises:
        Gone: the other process is no more.
        TimeoutError: there was nothing for as long as the socket waits.
    """
    message = json.loads(receive_bytes(channel))
    arrays = {}
    for name, (kind, shape) in message.pop("arrays").items():
        arrays[name] = np.empty(shape, np.dtype(kind))
        if arrays[name].nbytes:
            _fill(channel, arrays[name].data.cast("B"))
    return message, arrays


def receive_bytes(channel: socket.socket) -> bytes:
    """Return what comes next, behind its length.

    Raises:
        Gone: the other process is no more.
        TimeoutError: there was nothing for as long as the socket waits.
    """
    length = bytearray(LENGTH.size)
    _fill(channel, memoryview(length))
    content = bytearray(LENGTH.unpack(length)[0])
    _fill(channel, memoryview(content))
    return bytes(content)


def _fill(channel: socket.socket, target: memoryview) -> None:
    while len(target):
        try:
            count = channel.recv_into(target)
        except TimeoutError:
            raise
        except OSError:
            raise Gone from None
        if not count:
            raise Gone
        target = target[count:]


def serve(descriptor: int, threads: int) -> None:
    """Do what is asked through a socket until nobody asks any more.

    Args:
        descriptor: of the socket, inherited.
        threads: how many a video decoder may use.
    """
    container.THREADS = threads
    with suppress(Gone, OSError), socket.socket(fileno=descriptor) as channel:
        _Server(channel).run()
    # What hangs in a decoder keeps nobody waiting.
    os._exit(0)


class _Server:
    """Answers, and gives signs of life meanwhile."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._sending = channel, threading.Lock()

    def run(self) -> None:
        threading.Thread(target=self._beat, daemon=True).start()
        self._send({"ready": True})
        while True:
            wanted = pickle.loads(receive_bytes(self._channel))  # noqa: S301 (from our own parent)
            # From here on, whatever ends this process may be the file's doing.
            self._send({"taken": True})
            self._answer(wanted)

    def _answer(self, wanted: Wanted) -> None:
        try:
            for arrays in ahead(wanted.stretches()):
                self._send({}, arrays)
            self._send({"end": True})
        except VapromptError as error:
            self._send(error.facts())
        except OSError:  # of sending: decoders' own are errors of the user's files by now
            raise Gone from None
        except Exception:
            self._send({"bug": traceback.format_exc()})

    def _send(self, message: Any, arrays: Arrays | None = None) -> None:
        with self._sending:
            send(self._channel, message, arrays)

    def _beat(self) -> None:
        with suppress(OSError):
            while True:
                time.sleep(patience() / BEATS)
                self._send({"alive": True})
        os._exit(0)  # nobody is there any more, whatever this process is at
