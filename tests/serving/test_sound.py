"""The server with a run that only listens: it takes files of sound, and their pages play them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.browsing import Tab
from tests.media.clips import WAV_RATE, write_clip, write_wav
from tests.serving.process import Started, started
from vaprompt.prediction.predict import predict
from vaprompt.recipes import read_recipe, shipped
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def listening(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("listening") / "run"
    changes = ["epochs=1", "model.modalities=['audio']"]
    train(small_store, read_recipe(TrainRecipe, shipped("train", "demo"), changes), run, device="cpu")
    return run


@pytest.fixture(scope="module")
def server(listening: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(listening, tmp_path_factory.mktemp("server"), "--max-minutes", "1") as running:
        yield running


def voice(target: Path, seconds: float = 5.0) -> Path:
    return write_wav(target, np.sin(np.arange(round(seconds * WAV_RATE)) ** 1.5 / 1000) / 2)


def test_sound_gets_what_predict_writes_and_its_page_plays_it(
    server: Started, listening: Path, tab: Tab, tmp_path: Path
):
    sound = voice(tmp_path / "voice.wav")
    (expected,) = predict(listening, [sound], tmp_path / "out", device="cpu").done
    assert len(expected.time_F) == 150
    status, told = server.send(sound.read_bytes(), "A voice.wav")
    assert status == 201, told
    job = server.ended(told["id"])
    assert job["state"] == "done", job["error"]
    assert job["facts"]["frames"] == 150
    assert server.ask(path=f"/jobs/{job['id']}/prediction.csv")[1] == expected.csv.read_bytes()
    tab.allowed.append(f"http://{server.host}/jobs/{job['id']}/video.wav")
    tab.open(f"http://{server.host}/jobs/{job['id']}/page.html")
    assert tab.one("#video").tag_name == "audio"
    assert tab.wait(lambda: tab.script("return document.getElementById('video').readyState >= 2"))
    assert tab.script("return document.body.dataset.player") == "video"


def test_a_video_is_listened_to_and_what_is_too_long_or_no_sound_is_told(server: Started, tmp_path: Path):
    video = write_clip(tmp_path / "talk.mp4", times_ms=range(0, 2000, 100), sound=np.zeros((88200, 1), np.float32))
    job = server.ended(server.send(video.read_bytes())[1]["id"])
    assert job["state"] == "done", job["error"]
    assert job["facts"]["frames"] == 20
    job = server.ended(server.send(voice(tmp_path / "long.wav", 70).read_bytes(), "long.wav")[1]["id"])
    assert job["state"] == "failed"
    assert "lasts 70 s or more; 60 s are allowed" in job["error"]
    status, told = server.send(b"RIFF....JUNK" + bytes(1000), "no.wav")
    assert status == 415
    assert "is no video or sound that is read here" in told["error"]
    assert b'accept="video/*,audio/*,' in server.ask(path="/")[1]


def test_a_run_that_looks_refuses_it_at_once(small_run: Path, tmp_path: Path):
    with started(small_run, tmp_path, "--faces", "frames") as server:
        status, told = server.send(voice(tmp_path / "voice.wav").read_bytes(), "voice.wav")
    assert status == 415
    assert "is no video that is read here; those are .mp4" in told["error"]
    assert ".wav" not in told["error"]
