"""Items become full batches whatever video they are of, none is lost or kept waiting, and `auto` is a measurement."""

import gc
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extraction.forge import FakeImages, FakeSounds, tiny_dataset, write_tiny
from tests.extraction.test_streams import recipe
from vaprompt.errors import VapromptError
from vaprompt.extraction import loaded, local
from vaprompt.extraction.batch_size import ENOUGH, fastest, sizes
from vaprompt.extraction.batches import Batcher, Stopped
from vaprompt.extraction.pipeline import extract
from vaprompt.lanes import lanes


class Some(list):
    """A stretch of numbers."""

    def split(self, count):
        assert 0 < count < len(self)
        return Some(self[:count]), Some(self[count:])


def numbers(batch):
    return [number for stretch in batch.stretches for number in stretch]


@settings(max_examples=30)
@given(
    stretches=st.lists(
        st.tuples(st.sampled_from(["image", "audio"]), st.integers(0, 1), st.integers(1, 9)), max_size=40
    ),
    size=st.integers(1, 7),
    encoders=st.integers(1, 3),
)
def test_every_item_comes_once_in_batches_of_its_stream_and_shape(stretches, size, encoders):
    batcher = Batcher(room=3)
    taken, lock = [], threading.Lock()

    def encode():
        while (batch := batcher.take()) is not None:
            with lock:
                taken.append(batch)
            batcher.done()

    threads = [threading.Thread(target=encode) for _ in range(encoders)]
    for thread in threads:
        thread.start()
    number = 0
    for stream, shape, count in stretches:
        batcher.put(stream, Some((stream, shape, number + i) for i in range(count)), alike=shape, size=size)
        number += count
    batcher.close()
    for thread in threads:
        thread.join()
    assert Counter(item[2] for batch in taken for item in numbers(batch)) == Counter(range(number))
    for batch in taken:
        assert len(batch) == len(numbers(batch)) <= size
        assert len({item[1] for item in numbers(batch)}) == 1
        assert {item[0] for item in numbers(batch)} == {batch.stream}


def test_batches_are_full_while_an_encoder_is_busy():
    batcher = Batcher(room=10)
    batcher.put("image", Some(range(3)), alike=0, size=3)
    assert numbers(batcher.take()) == [0, 1, 2]
    batcher.put("image", Some(range(3, 8)), alike=0, size=3)
    assert numbers(batcher.take()) == [3, 4, 5]
    second = []
    waiting = threading.Thread(target=lambda: second.append(batcher.take()))
    waiting.start()
    time.sleep(0.6)
    assert second == []  # two items wait, and the encoders have something to do
    batcher.put("image", Some([8]), alike=0, size=3)
    waiting.join()
    assert numbers(second[0]) == [6, 7, 8]


def test_an_idle_encoder_takes_what_there_is():
    """Else an extraction whose other videos are held by another writer would wait for ever."""
    batcher = Batcher(room=10)
    batcher.put("image", Some([1]), alike=0, size=100)
    assert numbers(batcher.take()) == [1]


def test_who_brings_more_than_fits_waits_until_the_run_is_stopped():
    batcher = Batcher(room=2)
    brought, outcome = [], []

    def bring():
        try:
            for number in range(99):
                batcher.put("image", Some([number]), alike=0, size=1)
                brought.append(number)
        except Stopped:
            outcome.append("stopped")

    thread = threading.Thread(target=bring)
    thread.start()
    time.sleep(0.3)
    assert brought == [0, 1]
    assert batcher.fill == 1
    batcher.stop()
    thread.join()
    assert outcome == ["stopped"]
    with pytest.raises(Stopped):
        batcher.take()


@pytest.mark.parametrize("shapes", [4, 500])
def test_what_waits_is_bounded_however_many_shapes_there_are(shapes):
    """Face crops of a data set of one's own may all be of different sizes, and an accelerator gets them as they are."""
    room, size, brought, taken = 3, 5, [], []
    batcher = Batcher(room=room)

    def bring():
        for number in range(500):
            batcher.put("image", Some([number]), alike=number % shapes, size=size)
            brought.append(number)
        batcher.close()

    thread = threading.Thread(target=bring)
    thread.start()
    time.sleep(0.3)
    while (batch := batcher.take()) is not None:
        assert len(brought) - len(taken) <= (2 * room + 1) * size + 1
        taken.extend(numbers(batch))
        batcher.done()
        if len(taken) < 50:
            time.sleep(0.01)
    thread.join()
    assert sorted(taken) == list(range(500))


def test_a_stretch_longer_than_all_room_goes_in_bit_by_bit():
    batcher = Batcher(room=2)
    thread = threading.Thread(target=lambda: batcher.put("image", Some(range(10)), alike=0, size=2))
    thread.start()
    for start in range(0, 10, 2):
        assert numbers(batcher.take()) == [start, start + 1]
        batcher.done()
    thread.join()


class Clock:
    """A clock that stands still but for what is said to take time; threads share it."""

    def __init__(self):
        self.now, self.lock = 0.0, threading.Lock()

    def __call__(self):
        return self.now

    def spend(self, seconds):
        with self.lock:
            self.now += seconds


@given(overhead=st.floats(0.001, 0.5), best=st.sampled_from([1, 2, 4, 8, 16, 32]))
@settings(max_examples=25)
def test_auto_takes_the_smallest_of_the_best_sizes(overhead, best):
    clock = Clock()

    def seconds(size):
        return overhead + 0.05 * size * (1 if size <= best else 2)

    chosen, speeds = fastest(lambda size: clock.spend(seconds(size)), [1, 2, 4, 8, 16, 32], clock=clock)
    true = {size: size / seconds(size) for size in speeds}
    assert true[chosen] >= ENOUGH * max(true.values()) - 1e-9
    assert all(true[size] < ENOUGH * max(true.values()) + 1e-9 for size in speeds if size < chosen)


def test_an_accelerator_takes_the_largest_of_the_best_sizes_as_every_batch_costs_those_who_feed_it():
    clock = Clock()
    as_fast_from_4_to_16 = {1: 1.5, 2: 1.2, 4: 1.0, 8: 1.01, 16: 1.0, 32: 1.1, 64: 1.2}
    sizes = list(as_fast_from_4_to_16)
    for device, expected in {"cpu": 4, "meta": 16}.items():
        chosen, _ = fastest(
            lambda size: clock.spend(size * as_fast_from_4_to_16[size] / 1000), sizes, device=device, clock=clock
        )
        assert chosen == expected


@given(victim=st.sampled_from([1, 2, 4, 8, 16, 32]), slower=st.floats(1, 1.9), best=st.sampled_from([4, 8, 16]))
@settings(max_examples=25)
def test_a_disturbance_while_a_size_is_tried_decides_nothing(victim, slower, best):
    clock = Clock()
    first = {"calls": 0}

    def encode(size):
        disturbed = size == victim and first["calls"] < 2
        first["calls"] += size == victim
        clock.spend((0.02 + 0.005 * size * (1 if size <= best else 2)) * (slower if disturbed else 1))

    chosen, _ = fastest(encode, [1, 2, 4, 8, 16, 32], clock=clock)
    true = {size: size / (0.02 + 0.005 * size * (1 if size <= best else 2)) for size in (1, 2, 4, 8, 16, 32)}
    assert true[chosen] >= 0.95 * max(true.values())


def test_a_machine_whose_speed_comes_and_goes_is_fair_to_all_sizes():
    """As shared ones do: it is between half and one and a half times as fast for some seconds, then something else."""
    near, runs = 0, 40
    for seed in range(runs):
        clock, shares = Clock(), np.random.default_rng(seed).uniform(0.5, 1.5, 100)

        def seconds(size):
            return 0.06 + 0.03 * size

        def encode(size, clock=clock, shares=shares):
            clock.spend(seconds(size) / shares[int(clock.now // 4)])

        chosen, _ = fastest(encode, [1, 2, 4, 8, 16, 32], device="meta", clock=clock)
        near += chosen / seconds(chosen) >= 0.9 * 32 / seconds(32)
    assert near >= 0.9 * runs


def test_sizes_are_told_apart_on_a_processor_that_others_slow_down():
    """A network takes two items at once: of three, it computes four. Meanwhile others take up to two thirds of it."""
    slower = np.random.default_rng(0).uniform(1, 3, 1000)

    def pair(_):
        time.sleep(0.004 * slower[int(time.monotonic() / 0.3) % 1000])

    chosen, speeds = fastest(lambda size: lanes().map(pair, range(-(-size // 2))), [2, 3, 5])
    assert chosen == 2
    assert speeds[3] / speeds[2] == pytest.approx(3 / 4, rel=0.1)
    assert speeds[5] / speeds[2] == pytest.approx(5 / 6, rel=0.1)


def test_sizes_are_not_raised_where_a_batch_takes_long_and_brings_little():
    clock = Clock()
    chosen, speeds = fastest(lambda size: clock.spend(1.5 * size), [1, 2, 4, 8], clock=clock)
    assert chosen == 1
    assert sorted(speeds) == [1, 2]


LACK = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17 GB, other allocations: 1 GB, max allowed: 18 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]
"""How it is said that there is no memory left: on GPUs, on Apple's, by the processor's torch, and by numpy."""


@pytest.mark.parametrize("lack", LACK, ids=["cuda", "mps", "cpu", "numpy"])
def test_sizes_that_memory_does_not_hold_are_left_out(lack):
    clock = Clock()

    def encode(size):
        if size > 4:
            raise lack
        clock.spend(0.2)

    chosen, speeds = fastest(encode, sizes("cpu", "image"), clock=clock)
    assert sorted(speeds) == [1, 2, 4]
    assert chosen == 4


def test_what_else_goes_wrong_in_a_measurement_is_told():
    def encode(size):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fastest(encode, [1, 2])


@pytest.mark.parametrize(("calls", "expected"), [(1, [4]), (5, [8, 4])])
def test_a_size_that_runs_out_of_memory_later_is_left_out_with_all_above_half_of_it(calls, expected):
    """At its first measurement nothing else may have lain in memory."""
    clock, seen = Clock(), Counter()
    large = 2 * expected[0]

    def encode(size):
        seen[size] += 1
        if size == large and seen[size] >= calls:
            raise torch.OutOfMemoryError("no")
        clock.spend(0.2)

    chosen, speeds = fastest(encode, [4, 8, 16], device="meta", clock=clock)
    assert chosen == large // 2
    assert sorted(speeds, reverse=True) == expected


def test_sizes_lie_at_half_of_what_ran_out_of_memory_or_below():
    def encode(size):
        if size == 7:
            raise torch.OutOfMemoryError("no")
        time.sleep(0.01)

    chosen, speeds = fastest(encode, [2, 3, 5, 7, 9], device="meta")
    assert sorted(speeds) == [2, 3]
    assert chosen == 3


def test_where_the_smallest_size_does_not_fit_half_of_it_is_taken_unmeasured():
    def encode(size):
        raise torch.OutOfMemoryError("no")

    assert fastest(encode, [8, 16], device="meta") == (4, {})


def test_nothing_of_a_batch_that_ran_out_of_memory_stays_in_it(monkeypatch):
    left, emptied = [], []
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: emptied.append([some() for some in left]))

    def encode(size):
        activations = torch.empty(size)
        if size > 2:
            left.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("no")
        time.sleep(0.01)

    gc.disable()
    try:
        fastest(encode, [1, 2, 4], device="meta")
    finally:
        gc.enable()
    assert emptied == [[None] * 3]


def test_sizes_are_measured_beside_all_networks_and_before_anything_is_encoded(tmp_path, monkeypatch):
    done = []

    class Images(FakeImages):
        def encode(self, image_BHWC):
            done.append("encode")
            return super().encode(image_BHWC)

    monkeypatch.setattr(local, "image_encoder", lambda *_: done.append("load") or Images(0.0))
    monkeypatch.setattr(local, "audio_encoder", lambda *_: done.append("load") or FakeSounds())
    monkeypatch.setattr(loaded, "fastest", lambda *_, **__: done.append("measure") or (4, {}))
    auto = recipe("image.batch=auto", "audio.batch=auto")
    assert extract(tiny_dataset(write_tiny(tmp_path / "data")), auto, tmp_path / "s.zarr").done == ["v1", "v2"]
    assert done[:4] == ["load", "load", "measure", "measure"]
    assert set(done[4:]) == {"encode"}


def test_memory_that_does_not_suffice_for_an_extraction_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    def image_encoder(*_):
        raise LACK[1]

    monkeypatch.setattr(local, "image_encoder", image_encoder)
    with pytest.raises(VapromptError, match=r"s\.zarr: memory does not suffice .*; lower image.batch"):
        extract(tiny_dataset(write_tiny(tmp_path / "data")), recipe(), tmp_path / "s.zarr")
