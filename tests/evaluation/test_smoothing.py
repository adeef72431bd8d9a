"""Filters against sums written out, at steady and varying frame rates, and the choice on the training split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaprompt.errors import RecipeError
from vaprompt.evaluation.protocols import Judged, official
from vaprompt.evaluation.smoothing import NONE, Smoothing, candidates, parse_smoothing, smooth, smoothed, tune

RATE = 25


def trace(frames=120, seed=0):
    generator = np.random.default_rng(seed)
    return np.arange(frames) / RATE, generator.uniform(-1, 1, (frames, 2)).astype(np.float32)


def by_hand(value, kind, seconds):
    padded = np.pad(value.astype(np.float64), ((600, 600), (0, 0)), mode="edge")
    half = round(seconds * RATE / 2)
    out = []
    for row in range(600, 600 + len(value)):
        around = padded[row - half : row + half + 1]
        if kind == "mean":
            out.append(around.mean(axis=0))
        elif kind == "median":
            out.append(np.median(around, axis=0))
        else:
            deviation = seconds / 2.3548200450309493
            offset = np.arange(-500, 501) / RATE
            weight = np.exp(-(offset**2) / (2 * deviation**2))
            out.append(weight @ padded[row - 500 : row + 501] / weight.sum())
    return np.array(out)


@pytest.mark.parametrize("seconds", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["mean", "gaussian", "median"])
def test_each_filter_is_its_definition(kind, seconds):
    time, value = trace()
    # A Gaussian is cut at 4 deviations, where its weight is 0.0003 of the middle's.
    np.testing.assert_allclose(smooth(time, value, Smoothing(kind, seconds)), by_hand(value, kind, seconds), atol=5e-4)


@pytest.mark.parametrize("kind", ["mean", "gaussian", "median"])
def test_the_width_is_in_seconds_whatever_the_frame_rate(kind):
    found = {}
    for rate in (10, 30, 60):
        time = np.arange(20 * rate + 1) / rate
        value = np.stack((np.sin(time), (time > 9.99).astype(float)), axis=1)
        found[rate] = smooth(time, value, Smoothing(kind, 2.0))[:: rate // 10]
    np.testing.assert_allclose(found[10][:, 0], found[30][:, 0], atol=0.03)
    np.testing.assert_allclose(found[30], found[60], atol=0.04)


@pytest.mark.parametrize("smoothing", candidates(), ids=str)
def test_it_looks_ahead_as_far_as_it_says_and_no_farther(smoothing):
    time_F = np.arange(-30 * RATE, 30 * RATE + 1) / RATE
    impulse_F2 = np.repeat(time_F[:, None] == 0, 2, axis=1).astype(np.float32)
    step_F2 = np.repeat(time_F[:, None] >= 0, 2, axis=1).astype(np.float32)
    # A median lets one frame alone vanish.
    felt_F = smooth(time_F, step_F2 if smoothing.kind == "median" else impulse_F2, smoothing)[:, 0] > 1e-7
    first = -float(time_F[felt_F][0])
    if smoothing.kind == "median":
        assert 0 <= first <= smoothing.looks_ahead
    else:
        assert first == pytest.approx(smoothing.looks_ahead, abs=2 / RATE)


def test_at_a_varying_rate_time_decides_and_not_the_count_of_frames():
    # 10 s at 50 frames a second, then 10 s at 5; a line stays a line, away from the ends.
    time = np.concatenate((np.arange(500) / 50, 10 + np.arange(51) / 5))
    value = np.stack((time / 20, -time / 20), axis=1)
    inside = (time > 2) & (time < 18)
    for kind in ("mean", "gaussian", "median"):
        np.testing.assert_allclose(smooth(time, value, Smoothing(kind, 2.0))[inside], value[inside], atol=2e-3)


@given(
    st.integers(1, 60), st.sampled_from(["mean", "gaussian", "median"]), st.floats(0.1, 30), st.integers(0, 2**32 - 1)
)
def test_it_never_leaves_the_range_and_keeps_constants(frames, kind, seconds, seed):
    time, value = trace(frames, seed)
    found = smooth(time, value, Smoothing(kind, seconds))
    assert found.shape == value.shape
    assert (found >= value.min(axis=0) - 1e-6).all()
    assert (found <= value.max(axis=0) + 1e-6).all()
    constant = np.full((frames, 2), 0.25, np.float32)
    np.testing.assert_allclose(smooth(time, constant, Smoothing(kind, seconds)), constant, atol=1e-6)


def judged(name, noise, seed):
    generator = np.random.default_rng(seed)
    time = np.arange(600) / RATE
    truth = np.stack((np.sin(time / 2), np.cos(time / 3)), axis=1).astype(np.float32)
    prediction = (truth + noise * generator.normal(size=truth.shape)).clip(-1, 1).astype(np.float32)
    index = np.arange(0, 600, 75)
    return Judged(name, time, prediction, truth, np.ones(600, bool), prediction[index], truth[index], index)


def test_noise_is_smoothed_away_and_what_is_right_is_left_alone():
    noisy, clean = [judged("a", 0.8, 1), judged("b", 0.8, 2)], [judged("c", 0.0, 3)]
    chosen, table = tune(noisy)
    assert chosen.kind != "none"
    assert [(row["kind"], row["seconds"]) for row in table] == [(item.kind, item.seconds) for item in candidates()]
    best = max(table, key=lambda row: row["mean"])
    assert (best["kind"], best["seconds"]) == (chosen.kind, chosen.seconds)
    after = [smoothed(video, chosen) for video in noisy]
    assert official(after)["mean"] == pytest.approx(best["mean"])
    assert official(after)["mean"] > official(noisy)["mean"] + 0.05
    np.testing.assert_array_equal(after[0].subset_prediction_P2, after[0].prediction_F2[::75])
    assert tune(clean)[0] == NONE


def test_texts_name_filters_and_others_are_refused():
    for smoothing in candidates():
        assert parse_smoothing(str(smoothing)) == smoothing
    for text in ("", "mean", "mean:", "mean:0", "mean:-1", "mean:nan", "mean:inf", "box:2", "none:2", "gaussian:601"):
        with pytest.raises(RecipeError, match="write for example gaussian:3"):
            parse_smoothing(text)


@pytest.mark.parametrize("text", ["mean:1e-300", "gaussian:0.001", "gaussian:1e-200", "gaussian:5e-324", "median:1e-9"])
def test_a_filter_narrower_than_a_frame_changes_nothing(text):
    time_F, value_F2 = trace()
    np.testing.assert_array_equal(smooth(time_F, value_F2, parse_smoothing(text)), value_F2)
