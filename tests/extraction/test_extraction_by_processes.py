"""Whole extractions whose media other processes decode: the same store, whatever becomes of those."""

import subprocess
from itertools import count
from random import Random

import pytest

from tests.extraction.conftest import by_name, files_below
from tests.extraction.numbers_wanted import Numbers
from tests.extraction.test_decoders import is_alive, kill
from vaprompt.errors import VapromptError
from vaprompt.extraction import decoders as module
from vaprompt.extraction import local
from vaprompt.extraction.decoders import START, Decoders
from vaprompt.extraction.engine import MOST_DECODERS, SETTING, reading
from vaprompt.extraction.pipeline import extract


@pytest.mark.slow
def test_a_store_is_the_same_whoever_decodes(dataset, recipe, store, tmp_path, monkeypatch):
    monkeypatch.setenv(SETTING, "3")
    report = extract(dataset, recipe, tmp_path / "s.zarr")
    assert report.failed == {}
    assert files_below(tmp_path / "s.zarr") == files_below(store)


def test_a_video_that_a_process_dies_over_is_recorded_and_the_others_go_on(dataset, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv(SETTING, "2")
    import vaprompt.extraction.reading as room

    victim = by_name(dataset, dataset.videos[1].name)
    real = room.WantedTimes
    monkeypatch.setattr(
        room,
        "WantedTimes",
        lambda media, *more: Numbers(media, 0, "die") if media == victim.media else real(media, *more),
    )
    report = extract(dataset, recipe, tmp_path / "s.zarr")
    assert report.failed.keys() == {video.name for video in dataset.videos if video.media == victim.media}
    assert "ended by itself" in report.failed[victim.name]
    assert len(report.done) == len(dataset.videos) - len(report.failed)
    monkeypatch.setattr(room, "WantedTimes", real)
    assert extract(dataset, recipe, tmp_path / "s.zarr").failed == {}


@pytest.mark.slow
def test_processes_that_die_while_encoders_are_loaded_cost_no_video(dataset, recipe, store, tmp_path, monkeypatch):
    monkeypatch.setenv(SETTING, "2")
    begun, start, load = [], Decoders.start, local.image_encoder
    monkeypatch.setattr(Decoders, "start", lambda self, count: begun.append(self) or start(self, count))

    def loading(recipe, device):
        for decoders in begun:
            kill(decoders.processes)
        begun.clear()
        return load(recipe, device)

    monkeypatch.setattr(local, "image_encoder", loading)
    assert extract(dataset, recipe, tmp_path / "s.zarr").failed == {}
    assert files_below(tmp_path / "s.zarr") == files_below(store)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_processes_that_are_killed_at_any_time_cost_what_they_were_at(
    seed, dataset, recipe, store, tmp_path, monkeypatch
):
    monkeypatch.setenv(SETTING, "2")
    monkeypatch.setattr(module, "TRIES", 5)  # all kills may hit processes that start in vain for the same thing
    chance, all_of_them, killed, told = Random(seed), [], set(), count(1)
    whens = chance.sample(range(1, 40), 4)
    start, receive = subprocess.Popen, module.receive

    def started(command, **options):
        process = start(command, **options)
        if command[1:3] == ["-c", START]:
            all_of_them.append(process)
        return process

    def received(channel):
        if next(told) in whens:
            alive = [process for process in all_of_them if process.poll() is None]
            for process in chance.sample(alive, min(1, len(alive))):
                process.kill()
                killed.add(process.pid)
        return receive(channel)

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(module, "receive", received)
    report = extract(dataset, recipe, tmp_path / "s.zarr")
    monkeypatch.setattr(module, "receive", receive)
    assert killed
    assert sorted([*report.done, *report.failed]) == sorted(video.name for video in dataset.videos)
    assert all("ended by itself (exit code -9)" in reason for reason in report.failed.values())
    assert len({by_name(dataset, name).media for name in report.failed}) <= len(killed)
    assert not any(is_alive(process.pid) for process in all_of_them)
    assert extract(dataset, recipe, tmp_path / "s.zarr").failed == {}
    assert files_below(tmp_path / "s.zarr") == files_below(store)


def test_accelerators_get_processes_and_the_processor_threads(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr("vaprompt.extraction.engine.cores", lambda: 16)
    assert reading(["cpu"]) == (2, False)
    assert reading(["cuda:0"]) == (15, True)
    assert reading(["cuda:0", "cuda:1"]) == (14, True)
    monkeypatch.setattr("vaprompt.extraction.engine.cores", lambda: 256)
    assert reading([f"cuda:{index}" for index in range(8)]) == (128, True)
    monkeypatch.setattr("vaprompt.extraction.engine.cores", lambda: 1)
    assert reading(["cuda:0"]) == (2, True)
    monkeypatch.setenv(SETTING, "0")
    assert reading(["cuda:0"]) == (2, False)
    monkeypatch.setenv(SETTING, "5")
    assert reading(["cpu"]) == (5, True)


@pytest.mark.parametrize("given", ["many", "-1", "1.5", str(MOST_DECODERS + 1), ""])
def test_a_setting_that_is_no_number_of_processes_is_one_line(monkeypatch, given):
    monkeypatch.setenv(SETTING, given)
    with pytest.raises(VapromptError, match=SETTING):
        reading(["cpu"])
