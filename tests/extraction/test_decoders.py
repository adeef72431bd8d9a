"""What other processes decode is what this one would have decoded, whatever becomes of them."""

import gc
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.extraction.numbers_wanted import Numbers
from vaprompt.errors import MediaError, VapromptError
from vaprompt.extraction import decoders as module
from vaprompt.extraction import decoding, local
from vaprompt.extraction.decoders import Decoders
from vaprompt.extraction.decoding import STRETCH, WantedFacts, WantedPictures, WantedSound, WantedTimes
from vaprompt.extraction.engine import SETTING
from vaprompt.extraction.grid import audio_ends
from vaprompt.extraction.pipeline import extract
from vaprompt.media.audio import audio_windows
from vaprompt.media.patience import SETTING as PATIENCE
from vaprompt.media.video import frame_times


@pytest.fixture
def decoders():
    some = Decoders()
    yield some
    some.close()


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(happens):
    until = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_processes_that_are_started_beforehand_are_used(dataset, decoders):
    decoders.start(2)
    first = decoders.processes
    assert len(first) == 2
    decoders.start(1)
    video = next(video for video in dataset.videos if video.crops is not None)
    one, other = (decoders.stretches(WantedTimes(video.media)) for _ in range(2))
    np.testing.assert_array_equal(next(one)["time"], next(other)["time"])
    assert decoders.processes == first
    third = decoders.stretches(WantedTimes(video.media))
    next(third)
    assert len(decoders.processes) == 3
    decoders.close()
    wait_until(lambda: not any(is_alive(process) for process in first))


def test_an_extraction_starts_them_before_it_loads_an_encoder(dataset, recipe, tmp_path, monkeypatch):
    started, load = [], local.image_encoder
    monkeypatch.setenv(SETTING, "3")
    monkeypatch.setattr(Decoders, "start", lambda self, count: started.append(count))

    def loading(recipe, device):
        assert started == [min(3, len(dataset.videos))]
        return load(recipe, device)

    monkeypatch.setattr(local, "image_encoder", loading)
    assert not extract(dataset, recipe, tmp_path / "s.zarr").failed
    assert len(started) == 1
    # Nothing is to be done, and nothing is started.
    extract(dataset, recipe, tmp_path / "s.zarr")
    assert len(started) == 1


def numbers(decoders, *wanted):
    return [int(some["number"][0]) for some in decoders.stretches(Numbers(*wanted))]


def test_other_processes_decode_what_this_one_would(dataset, decoders):
    video = next(video for video in dataset.videos if video.crops is not None)
    time_F = frame_times(video.media)
    end_W = audio_ends(float(time_F[-1]), window=2.0, hop=0.1)
    for wanted in (
        WantedTimes(video.media),
        WantedPictures(video.media, "all", time_F, video.crops),
        WantedPictures(video.media, 3.0, time_F),
        WantedPictures(video.media, "all", None),
        WantedSound(video.media, end_W, 2.0, 16000),
        WantedFacts(video.crops),
    ):
        theirs, ours = list(decoders.stretches(wanted)), list(wanted.stretches())
        assert len(theirs) == len(ours)
        for left, right in zip(theirs, ours, strict=True):
            assert left.keys() == right.keys()
            for name in left:
                assert left[name].dtype == right[name].dtype
                np.testing.assert_array_equal(left[name], right[name])
                assert left[name].flags.writeable
    assert len(decoders.processes) == 1
    assert max(len(some["rgb"]) for some in WantedPictures(video.media, "all", None).stretches()) <= STRETCH


@pytest.mark.parametrize("hop", [0.1, 0.37, 3.0])
def test_windows_of_a_stretch_are_those_that_are_cut_one_by_one(dataset, hop, monkeypatch):
    video = next(video for video in dataset.videos if video.crops is not None)
    end_W = audio_ends(float(frame_times(video.media)[-1]), window=2.0, hop=hop)
    # Ends that the hop does not reach lie at uneven distances, and the last one is where the video ends.
    wanted = WantedSound(video.media, np.sort(np.append(end_W, end_W + 0.013)), 2.0, 16000)
    for most_bytes in (1, 400_000, 2**22):
        monkeypatch.setattr(decoding, "STRETCH_BYTES", most_bytes)
        stretches = list(wanted.stretches())
        found = [wave_L for some in stretches for wave_L in wanted.windows(some)]
        assert max(len(some["sound"]) for some in stretches) <= max(32000, most_bytes // 4)
        assert (most_bytes > 1) == (len(stretches) < len(found)) or len(found) == 1
        one_by_one = list(audio_windows(video.media, wanted.end_W, window=2.0, rate=16000))
        np.testing.assert_array_equal(found, one_by_one)


def test_an_error_of_a_file_is_the_same_error_and_the_process_goes_on(dataset, own, decoders):
    video = next(video for video in own.videos if video.crops is not None)
    broken = sorted(video.crops.iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:200])
    wanted = WantedPictures(video.media, "all", frame_times(video.media), video.crops)
    with pytest.raises(MediaError) as here:
        list(wanted.stretches())
    with pytest.raises(MediaError) as there:
        list(decoders.stretches(wanted))
    assert str(there.value) == str(here.value)
    before = decoders.processes
    with pytest.raises(MediaError, match=r"x:3: is no good; get another"):
        numbers(decoders, Path("x"), 2, "fail")
    assert numbers(decoders, Path("x"), 2) == [0, 1]
    assert decoders.processes == before


@pytest.mark.parametrize("count", [0, 2])
def test_a_process_that_dies_costs_one_file(decoders, count):
    with pytest.raises(MediaError, match=r"x: the process that decoded it ended by itself \(exit code -9\)"):
        numbers(decoders, Path("x"), count, "die")
    assert numbers(decoders, Path("y"), 3) == [0, 1, 2]


def kill(processes):
    for process in processes:
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("when", ["starting", "started", "used"])
def test_processes_that_die_while_they_wait_cost_nothing(decoders, when):
    decoders.start(2)
    if when == "started":
        time.sleep(1)
    if when == "used":
        both = [decoders.stretches(Numbers(Path("x"), 1)) for _ in range(2)]
        assert [int(some["number"][0]) for pair in zip(*both, strict=True) for some in pair] == [0, 0]
    before = decoders.processes
    kill(before)
    assert numbers(decoders, Path("y"), 3) == [0, 1, 2]
    (one,) = decoders.processes
    assert one not in before
    assert not any(is_alive(process) for process in before)


INTERRUPTED = """
import os, signal, sys
os.kill(os.getpid(), signal.SIGINT)
sys.path.pop(0)
del sys.modules["pickle"]
import pickle
"""
"""A module that is met with Ctrl-C while it is imported."""


def test_ctrl_c_while_a_process_starts_is_left_to_the_one_that_started_it(dataset, decoders, tmp_path, monkeypatch):
    (tmp_path / "pickle.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    decoders.start(1)
    started = decoders.processes
    video = next(video for video in dataset.videos if video.crops is not None)
    list(decoders.stretches(WantedTimes(video.media)))
    assert decoders.processes == started


def test_a_process_that_dies_before_it_begins_with_a_file_costs_nothing(decoders):
    assert numbers(decoders, Path("x"), 1) == [0]
    (process,) = decoders.processes
    # It is sent what it does not come to read.
    os.kill(process, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(numbers, decoders, Path("y"), 3)
        time.sleep(0.3)
        kill([process])
        assert asked.result() == [0, 1, 2]


@pytest.mark.parametrize("when", ["starting", pytest.param("started", marks=pytest.mark.slow)])
def test_one_that_is_killed_while_it_takes_a_dead_ones_place_costs_nothing(decoders, monkeypatch, when):
    """As where the system kills whatever it finds, because memory runs short."""
    ask, asked = module._Decoder.ask, []

    def doomed(decoder, wanted):
        asked.append(decoder)
        if len(asked) < module.TRIES:
            if when == "started":
                decoder.started = decoder._told()[0]["ready"]
            decoder.process.kill()
        ask(decoder, wanted)

    monkeypatch.setattr(module._Decoder, "ask", doomed)
    assert numbers(decoders, Path("x"), 3) == [0, 1, 2]
    assert decoders.processes == [asked[-1].process.pid]
    assert len(asked) == module.TRIES


@pytest.mark.slow
def test_no_more_are_started_than_have_a_chance(decoders, monkeypatch):
    ask, asked = module._Decoder.ask, []

    def doomed(decoder, wanted):
        asked.append(decoder)
        decoder.started = decoder._told()[0]["ready"]
        decoder.process.kill()
        ask(decoder, wanted)

    monkeypatch.setattr(module._Decoder, "ask", doomed)
    with pytest.raises(VapromptError, match=r"for decoding ended before it had .* \(exit code -9\); see what"):
        numbers(decoders, Path("x"), 3)
    assert len(asked) == module.TRIES
    assert decoders.processes == []


@pytest.mark.slow
def test_one_that_hangs_while_it_waits_costs_nothing(decoders, monkeypatch):
    assert numbers(decoders, Path("x"), 1) == [0]
    (process,) = decoders.processes
    os.kill(process, signal.SIGSTOP)
    monkeypatch.setattr(module, "patience", lambda: 0.1 if decoders.processes == [process] else 60)
    assert numbers(decoders, Path("y"), 3) == [0, 1, 2]
    assert not is_alive(process)


@pytest.mark.parametrize("beforehand", [0, 2])
def test_what_the_system_says_against_another_process_is_one_line(decoders, monkeypatch, beforehand):
    monkeypatch.setattr(sys, "executable", "/no/such/file")
    with pytest.raises(VapromptError, match=r"^a process for decoding cannot be started \(No such file or directory\)"):
        decoders.start(beforehand) or numbers(decoders, Path("x"), 1)


def test_a_process_that_hangs_as_a_whole_costs_one_file(decoders, monkeypatch):
    monkeypatch.setenv(PATIENCE, "1.5")
    assert numbers(decoders, Path("x"), 1) == [0]
    (process,) = decoders.processes
    with pytest.raises(MediaError, match="no sign of life for 3 s"):
        numbers(decoders, Path("x"), 1, "stop")
    wait_until(lambda: not is_alive(process))
    assert numbers(decoders, Path("x"), 1) == [0]


def test_what_is_wrong_with_the_program_is_told_as_such(decoders):
    with pytest.raises(RuntimeError, match="nothing over nothing"):
        numbers(decoders, Path("x"), 1, "blunder")
    assert numbers(decoders, Path("x"), 1) == [0]


def test_a_process_that_is_given_up_in_mid_answer_is_ended(decoders):
    stretches = decoders.stretches(Numbers(Path("x"), 10**9))
    next(stretches)
    (process,) = decoders.processes
    stretches.close()
    assert decoders.processes == []
    wait_until(lambda: not is_alive(process))


def test_processes_end_with_whoever_started_them():
    decoders = Decoders()
    first, second = decoders.stretches(Numbers(Path("x"), 5)), decoders.stretches(Numbers(Path("x"), 5))
    next(first), next(second)
    list(first), list(second)
    processes = decoders.processes
    assert len(processes) == 2
    del decoders, first, second
    gc.collect()
    assert not any(is_alive(process) for process in processes)


KILLED = """
import sys
from pathlib import Path
from tests.extraction.numbers_wanted import Numbers
from vaprompt.extraction import decoders as module
from vaprompt.extraction import decoding, local
from vaprompt.extraction.decoders import Decoders
decoders = Decoders()
stretches = [decoders.stretches(Numbers(Path("x"), 10**9)), decoders.stretches(Numbers(Path("x"), 1))]
next(stretches[0]), list(stretches[1])
print(*decoders.processes, flush=True)
sys.stdin.read()
"""


def test_processes_end_with_one_that_is_killed():
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        processes = [int(number) for number in program.stdout.readline().split()]
        assert len(processes) == 2
        assert all(is_alive(process) for process in processes)
        program.kill()
    wait_until(lambda: not any(is_alive(process) for process in processes))


@pytest.mark.parametrize("beforehand", [0, 3])
def test_a_process_that_does_not_start_is_one_line(decoders, monkeypatch, beforehand):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    decoders.start(beforehand)
    with pytest.raises(VapromptError, match=r"does not start \(exit code 1\)") as caught:
        list(decoders.stretches(Numbers(Path("x"), 1)))
    assert "\n" not in str(caught.value)
    assert decoders.processes == []
    assert not isinstance(caught.value, MediaError)
