"""Loudness by its definition, and voices where the synthetic people are known to talk."""

from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import write_clip
from vaprompt.datasets.synthetic.scene import Scene
from vaprompt.media.loudness import PIECE, SILENCE, STEP, measure_loudness

FRAMES = tuple(range(0, 12_000, 40))
LAST = FRAMES[-1] / 1000


def tone(hertz: float, seconds: float, amplitude: float, rate: int = 16000) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))[:, None]


def write(path: Path, sound: np.ndarray | None, **options: object) -> Path:
    # Sound without loss, so that levels are those that were written.
    return write_clip(path, times_ms=FRAMES, sound=sound, sound_rate=16000, audio="pcm_s16le", **options)


def test_the_level_is_the_root_mean_square_in_decibels_of_full_scale(tmp_path: Path):
    sound = np.concatenate((tone(300, 6, 0.5), tone(300, 6, 0.005)))
    found = measure_loudness(write(tmp_path / "a.mkv", sound), last=LAST)
    assert len(found.level_G) == int(LAST / STEP) + 1
    expected = 20 * np.log10(np.array([0.5, 0.005]) / np.sqrt(2))
    assert found.level_G[20:100] == pytest.approx(np.full(80, expected[0]), abs=0.1)
    assert found.level_G[140:200] == pytest.approx(np.full(60, expected[1]), abs=0.1)
    assert not found.silent


def test_an_instant_hears_what_is_around_it_and_beyond_the_sound_is_silence(tmp_path: Path):
    found = measure_loudness(write(tmp_path / "a.mkv", tone(200, 4, 0.5), sound_start=3.0), last=LAST)
    heard = np.flatnonzero(found.level_G > SILENCE) * STEP
    assert heard.min() == pytest.approx(3, abs=PIECE)
    assert heard.max() == pytest.approx(7, abs=PIECE)
    # Across the border of two blocks of 10 s nothing changes.
    level_F, _ = found.at(np.array([0.0, 5.012, 9.98, 500.0]))
    assert level_F.tolist() == found.level_G[[0, 100, 200, -1]].tolist()


@pytest.mark.parametrize("sound", [None, np.zeros((16000 * 12, 1))])
def test_without_sound_there_is_silence_and_no_voice(tmp_path: Path, sound: np.ndarray | None):
    found = measure_loudness(write(tmp_path / "a.mkv", sound), last=LAST)
    assert found.silent
    assert not found.voice_G.any()
    assert (found.level_G == SILENCE).all()


def test_noise_and_a_steady_hum_are_no_voice(tmp_path: Path):
    random = np.random.default_rng(1)
    noise = 0.1 * random.normal(size=(16000 * 12, 1)) * np.repeat([1, 3, 1, 2], 16000 * 3)[:, None]
    assert measure_loudness(write(tmp_path / "noise.mkv", noise), last=LAST).voice_G.mean() < 0.02
    hum = tone(100, 12, 0.2) + 0.001 * random.normal(size=(16000 * 12, 1))
    assert measure_loudness(write(tmp_path / "hum.mkv", hum), last=LAST).voice_G.mean() < 0.1


def test_a_pause_within_speech_is_bridged_and_a_click_is_no_voice(tmp_path: Path):
    silence = np.zeros((16000, 1))
    talk = np.concatenate((tone(150, 2, 0.3), silence[: 16000 // 4], tone(180, 2, 0.3)))
    click = tone(200, 0.05, 0.3)
    sound = np.concatenate((silence, talk, silence, silence, click, silence))
    found = measure_loudness(write(tmp_path / "a.mkv", sound), last=LAST)
    heard = np.flatnonzero(found.voice_G) * STEP
    assert heard.min() == pytest.approx(1, abs=0.1)
    assert heard.max() == pytest.approx(5.25, abs=0.1)
    assert len(heard) == pytest.approx(4.25 / STEP, abs=4)


def test_most_of_what_synthetic_people_say_is_found_in_their_rooms_noise(tmp_path: Path):
    found, kept = [], []
    for number in range(8):
        scene = Scene(
            "dataset", seed=3, number=number, seconds=12.0, surroundings="foreign" if number % 2 else "familiar"
        )
        path = write(tmp_path / f"{number}.mkv", scene.sound()[:, None])
        loudness = measure_loudness(path, last=LAST)
        time_G = np.arange(len(loudness.voice_G)) * STEP
        talking_C = scene.speech.talking_C
        talking_G = np.interp(time_G, np.arange(len(talking_C)) / 100, talking_C) > 0.5
        found.append(loudness.voice_G[talking_G].mean())
        kept.append((~loudness.voice_G)[~talking_G].mean())
    assert np.mean(found) > 0.85
    assert np.mean(kept) > 0.8


def test_people_who_talk_are_heard_and_silent_clips_are_not(clips: Path):
    for name in ("talk_25fps.mp4", "talk_30fps.mp4", "talk_vfr.mp4"):
        assert measure_loudness(clips / name, last=6.0).voice_G.mean() > 0.4
    for name in ("silent_track.mp4", "no_audio_stream.mp4"):
        assert measure_loudness(clips / name, last=4.0).silent
