"""What hangs is given up after a time without progress, keeps nobody else waiting, and the program ends."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from vaprompt.errors import MediaError, VapromptError
from vaprompt.media.ahead import ahead
from vaprompt.media.patience import SETTING, patiently, patiently_each
from vaprompt.media.pulse import Watch


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv(SETTING, "0.3")


def seconds_until_given_up(work):
    start = time.monotonic()
    with pytest.raises(MediaError, match=r"nothing was decoded for 0.3 s"):
        work()
    return time.monotonic() - start


def test_work_that_hangs_is_given_up(tmp_path):
    forever = threading.Event()
    assert 0.3 <= seconds_until_given_up(lambda: patiently(tmp_path, lambda pulse: forever.wait())) < 5
    forever.set()


def test_an_iterator_that_hangs_is_given_up_behind_what_it_gave(tmp_path):
    forever = threading.Event()

    def items(pulse):
        yield from (1, 2)
        forever.wait()

    source = patiently_each(lambda: tmp_path, items)
    assert [next(source), next(source)] == [1, 2]
    seconds_until_given_up(lambda: next(source))
    forever.set()


def test_slow_progress_is_progress(tmp_path):
    """The limit is on time without a sign of life, and not on the whole."""

    def work(pulse):
        for _ in range(8):
            time.sleep(0.1)
            pulse()
        return "done"

    def items(pulse):
        for number in range(8):
            time.sleep(0.1)
            yield number

    assert patiently(tmp_path, work) == "done"
    assert list(patiently_each(lambda: tmp_path, items)) == list(range(8))


def test_a_consumer_that_takes_its_time_is_no_fault_of_the_decoder(tmp_path):
    got = []
    for item in patiently_each(lambda: tmp_path, lambda pulse: iter(range(5)), size=1):
        time.sleep(0.4 if item < 2 else 0)
        got.append(item)
    assert got == list(range(5))


def test_one_that_was_only_slow_ends_at_its_next_sign_of_life(tmp_path):
    go_on, ended = threading.Event(), threading.Event()

    def work(pulse):
        try:
            go_on.wait()
            pulse()
        finally:
            ended.set()

    seconds_until_given_up(lambda: patiently(tmp_path, work))
    go_on.set()
    assert ended.wait(5)
    assert patiently(tmp_path, lambda pulse: 7) == 7


def test_errors_come_through_and_the_thread_is_used_again(tmp_path):
    def wrong(pulse):
        raise KeyError("inside")

    for _ in range(3):
        with pytest.raises(KeyError, match="inside"):
            patiently(tmp_path, wrong)
    before = threading.active_count()
    assert [patiently(tmp_path, lambda pulse: threading.get_ident()) for _ in range(20)].count(0) == 0
    assert threading.active_count() <= before


def test_closing_does_not_wait_for_ever_for_a_thread_that_hangs():
    forever = threading.Event()

    def items():
        yield 1
        forever.wait()
        yield 2

    source = ahead(items(), watch=Watch(0.3, lambda: MediaError(None, fault="", remedy="")))
    assert next(source) == 1
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 5
    forever.set()


@pytest.mark.parametrize("given", ["soon", "0", "-3", "nan", "inf"])
def test_a_setting_that_is_no_number_of_seconds_is_one_line(tmp_path, monkeypatch, given):
    monkeypatch.setenv(SETTING, given)
    with pytest.raises(VapromptError, match=SETTING):
        patiently(tmp_path, lambda pulse: None)


READ = """
import stat, sys
from pathlib import Path
import numpy as np
from vaprompt.errors import MediaError
from vaprompt.media import audio, container, crops, video

# Else a pipe is refused at once, as it should be: here the system itself is to hang when it opens one.
container.file_size = crops.file_size = lambda path: 1000
pipe = Path(sys.argv[1])
for read in (
    video.probe, video.frame_times, lambda path: list(video.read_frames(path)), audio.has_audio, audio.sound_extent,
    lambda path: list(audio.audio_windows(path, np.array([1.0]), window=1.0)), crops.read_image,
    lambda path: list(crops.read_images([path])),
):
    try:
        read(pipe)
    except MediaError as error:
        print(error)
"""


def test_every_way_to_read_survives_a_file_that_blocks_and_the_program_ends(tmp_path):
    pipe = tmp_path / "video.mp4"
    os.mkfifo(pipe)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(pipe)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    for line in lines:
        assert line.startswith(f"{pipe}: nothing was decoded for 0.3 s")


def test_a_real_decoder_that_stops_in_mid_file_is_given_up(clip, monkeypatch):
    """The file's own decoder gets nothing any more after its tenth packet."""
    import vaprompt.media.video as video

    packets, forever = video.packets, threading.Event()

    def stalled(*given):
        for number, packet in enumerate(packets(*given)):
            if number == 10:
                forever.wait()
            yield packet

    path = clip("a.mkv")
    monkeypatch.setattr(video, "packets", stalled)
    seconds_until_given_up(lambda: list(video.read_frames(path)))
    seconds_until_given_up(lambda: video.frame_times(path))
    monkeypatch.undo()
    forever.set()
    assert len(video.frame_times(path)) == 25
    assert np.all(np.diff(video.frame_times(path)) > 0)
