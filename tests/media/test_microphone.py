"""Sound that comes piece by piece lies where it was heard, and only its last seconds are held."""

import numpy as np
import pytest

from vaprompt.errors import MediaError
from vaprompt.media.microphone import Microphone

RATE = 16000


def pieces(wave: np.ndarray, rate: int, length: int = 2048, start: float = 0.0):
    """Yield times and 16-bit pieces of a wave in [-1, 1]."""
    for first in range(0, len(wave), length):
        yield start + first / rate, np.round(wave[first : first + length] * 32767).astype(np.int16)


def heard(wave: np.ndarray, rate: int, seconds: float = 10.0, start: float = 0.0) -> Microphone:
    microphone = Microphone(rate, RATE, seconds)
    for time, piece in pieces(wave, rate, start=start):
        microphone.hear(time, piece)
    return microphone


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_sound_lies_where_it_was_heard(rate: int):
    time = np.arange(3 * rate) / rate
    microphone = heard(0.5 * np.sin(2 * np.pi * 440 * time), rate, start=1.25)
    window = microphone.window(3.0, 1.0)
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.75 + np.arange(RATE) / RATE))
    assert window.dtype == np.float32
    np.testing.assert_allclose(window, expected, atol=3e-3)
    assert microphone.reached == pytest.approx(4.25, abs=0.05)


def test_where_nothing_was_heard_there_is_silence():
    microphone = heard(np.full(RATE, 0.5), RATE, start=1.0)
    for time, piece in pieces(np.full(RATE, 0.25), RATE, start=3.0):
        microphone.hear(time, piece)
    window = microphone.window(4.0, 4.0)
    middle = window[RATE // 2 :: RATE]
    np.testing.assert_allclose(middle, [0, 0.5, 0, 0.25], atol=1e-3)
    assert not microphone.window(9.0, 2.0).any()


def test_a_clock_that_trembles_makes_no_gaps():
    rng = np.random.default_rng(1)
    microphone = Microphone(48000, RATE, 10.0)
    for time, piece in pieces(np.full(3 * 48000, 0.5), 48000):
        microphone.hear(max(0.0, time + rng.uniform(-0.05, 0.05)), piece)
    np.testing.assert_allclose(microphone.window(2.5, 2.0), 0.5, atol=1e-2)


def test_a_piece_of_no_samples_changes_nothing():
    microphone = Microphone(16000, 16000, 2.0)
    nothing_L = np.zeros(0, np.int16)
    microphone.hear(0.5, nothing_L)
    assert microphone.reached == 0
    microphone.hear(0.5, np.full(1600, 1000, np.int16))
    microphone.hear(0.6, nothing_L)
    assert microphone.reached == pytest.approx(0.6, abs=0.01)


def test_only_the_last_seconds_are_held():
    microphone = Microphone(RATE, RATE, 2.0)
    for time, piece in pieces(np.zeros(60 * RATE), RATE):
        microphone.hear(time, piece)
    assert sum(len(wave) for _, wave in microphone._held) < 2.5 * RATE


@pytest.mark.parametrize("rate", [0, 1, 10**7])
def test_rates_of_no_sound_are_refused(rate: int):
    with pytest.raises(MediaError, match="samples a second"):
        Microphone(rate, RATE, 10.0)


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf"), 1e12])
def test_sound_at_no_time_is_refused(time: float):
    with pytest.raises(MediaError, match="begin the live view again"):
        Microphone(RATE, RATE, 10.0).hear(time, np.zeros(10, np.int16))


def test_sound_of_the_past_is_refused():
    microphone = heard(np.zeros(30 * RATE), RATE, seconds=2.0)
    with pytest.raises(MediaError, match="is at 1 s"):
        microphone.hear(1.0, np.zeros(10, np.int16))
