"""Processes that leave Ctrl-C to the one that started them, and do not outlive it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait


@contextmanager
def out_of_interrupts_reach() -> Iterator[None]:
    """Keep SIGINT for good from the processes that are started within this, and from those that they start.

    Ctrl-C reaches all processes of a terminal, also those that are still importing, each of which would print where it
    was. One that comes to this thread meanwhile is late by that moment.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def spawning_out_of_interrupts_reach() -> Iterator[None]:
    """As `out_of_interrupts_reach`, for processes of `multiprocessing` that are spawned."""
    # It is started with the first of them otherwise, and lets SIGINT through again behind that.
    resource_tracker.ensure_running()
    with out_of_interrupts_reach():
        yield


def end_at_an_interrupt() -> None:
    """Have this process, which was started out of SIGINT's reach, end by it, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """Have this process of `multiprocessing` end when its parent does, however that ends.

    Those of a pool would wait for work for ever: each of them holds the other end of the pipe that all of them read.
    """
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
