"""Loops without Python's lock: they are what they were, and hold up nobody."""

import sys
import threading
import time
import warnings

import pytest
import torch
from torch import Tensor

from vaprompt.model import loops
from vaprompt.unlocked import unlocked


@unlocked
def count_up(counter: Tensor, until: int) -> None:
    """Count in many small operations."""
    for _ in range(until):
        counter.add_(1)


def unknown(values: Tensor, tag: str) -> None:
    """Do what TorchScript does not know."""
    values.fill_(sum(map(ord, sys.intern(tag))))


def test_what_torchscript_does_not_know_runs_all_the_same_and_says_so_once():
    values = torch.zeros(3)
    with pytest.warns(RuntimeWarning, match="unknown runs under Python's lock, and slower: TorchScript cannot read it"):
        run = unlocked(unknown)
    run(values, "ab")
    assert values.tolist() == [ord("a") + ord("b")] * 3


def test_no_call_changes_what_other_threads_are_warned_of(monkeypatch):
    @unlocked
    def once(counter: Tensor) -> None:
        counter.add_(1)

    counter = torch.zeros(())
    monkeypatch.setattr(warnings, "catch_warnings", lambda *_, **__: pytest.fail("in the midst of other threads"))
    once(counter)
    assert counter.item() == 1


def test_a_loop_goes_on_while_another_thread_holds_the_lock():
    counter = torch.zeros((), dtype=torch.int64)
    count_up(counter, 3)
    seen = counter.numpy()

    def counted_while_held(count):
        thread = threading.Thread(target=count, args=(counter.zero_(), 200_000))
        thread.start()
        while seen[()] < 10:
            time.sleep(0.001)
        # From here to the end nothing gives the lock up: not this loop by itself, nor the interpreter for others.
        before, until = int(seen[()]), time.perf_counter() + 0.1
        while time.perf_counter() < until:
            pass
        found = int(seen[()]) - before
        return thread, found

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread, found = counted_while_held(count_up)
        thread.join()
        assert found > 1000
        thread, found = counted_while_held(count_up.__wrapped__)
        thread.join()
        assert found < 10, "what holds the lock does not keep it from anybody"
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("loop", [loops.advance, loops.descend])
def test_torchscript_knows_the_loops_of_recurrences(loop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(torch.jit.script(loop.__wrapped__), torch.jit.ScriptFunction)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("networks", [(), (2,)])
def test_loops_of_recurrences_are_the_same_bytes_as_they_stand(backwards, half, networks):
    steps, windows, units = 5, 3, 8
    draw = torch.Generator().manual_seed(0)

    def room(*shape):
        return torch.randn(*networks, *shape, generator=draw)

    precision = torch.bfloat16 if half else torch.float32
    framed, gates, read = room(steps + 2, windows, units), room(steps, windows, 3 * units), room(steps, windows, units)
    rounded = framed.to(precision) if half else None
    weights = room(units, 3 * units).to(precision)
    given, slopes, d_state = room(steps, windows, units), room(3, windows, 3, units), torch.zeros(read.shape)
    d_gates = torch.zeros(gates.shape, dtype=precision).unflatten(-1, (3, units))

    def outcome(which):
        advance, descend = (which(loop) for loop in (loops.advance, loops.descend))
        written = [part if part is None else part.clone() for part in (framed, gates, torch.empty_like(read), rounded)]
        advance(*written, read, weights, torch.tensor(-1.0), backwards)
        derived = [part.clone() for part in (d_state, d_gates)]
        for start in (0, 2) if backwards else (2, 0):
            descend(given, written[1], slopes, weights.mT.contiguous(), *derived, start, backwards)
        return [part for part in (*written, *derived) if part is not None]

    for one, other in zip(outcome(lambda loop: loop), outcome(lambda loop: loop.__wrapped__), strict=True):
        assert torch.equal(one, other)
