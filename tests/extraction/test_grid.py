"""The laws of the two time grids."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaprompt.extraction.grid import audio_ends, frames_at_rate

hundredths = st.integers(4, 3000).map(lambda n: n / 100)


@given(last=st.integers(0, 400_000).map(lambda n: n / 1000), window=hundredths, hop=hundredths)
def test_every_frame_has_a_window_that_ends_before_it(last, window, hop):
    end_W = audio_ends(last, window=window, hop=hop)
    assert np.sum(end_W <= 0) == 1
    assert end_W[0] <= 0 < end_W[0] + hop + 1e-8
    assert end_W[-1] <= last + 1e-8
    assert end_W[-1] + hop > last - 1e-8
    np.testing.assert_allclose(np.diff(end_W), hop, atol=2e-9)
    turns = (end_W - window) / hop
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-6)


def test_ten_seconds_every_three_is_the_papers_grid():
    assert audio_ends(13.5, window=10.0, hop=3.0).tolist() == [-2, 1, 4, 7, 10, 13]
    assert audio_ends(0.0, window=10.0, hop=3.0).tolist() == [-2]
    assert audio_ends(1.0, window=10.0, hop=0.1).tolist() == pytest.approx(np.arange(0, 1.05, 0.1))


@given(gaps=st.lists(st.integers(1, 400), min_size=0, max_size=60), rate=st.integers(1, 40).map(lambda n: n / 2))
def test_frames_are_those_nearest_to_the_grid(gaps, rate):
    time_N = np.concatenate(([0.0], np.cumsum(gaps) / 1000))
    points = [k / rate for k in range(math.floor(time_N[-1] * rate + 1e-9) + 1)]
    found = frames_at_rate(time_N, rate)
    assert found.tolist() == sorted(set(found.tolist()))
    distance = [min(abs(time_N[i] - point) for i in found) for point in points]
    best = [min(abs(time - point) for time in time_N) for point in points]
    np.testing.assert_allclose(distance, best, atol=1e-9)


def test_a_rate_above_the_videos_takes_every_frame_once():
    time_N = np.arange(50) / 25
    assert frames_at_rate(time_N, 100.0).tolist() == list(range(50))
    assert frames_at_rate(time_N, 5.0).tolist() == list(range(0, 50, 5))
    assert frames_at_rate(np.zeros(1), 5.0).tolist() == [0]
