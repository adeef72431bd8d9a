"""The interval against a plain resampling of videos, and its promises."""

import numpy as np
import pytest

from tests.evaluation.definition import lin
from vaprompt.evaluation.bootstrap import interval, source_video


def videos(count, *, seed=0, frames=(20, 60), offset=0.0):
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        level = generator.normal(0, 0.3, 2)
        truth = level + 0.2 * generator.normal(size=(generator.integers(*frames), 2)) + offset
        found.append((f"v{number}", truth + generator.normal(0, 0.25, truth.shape), truth))
    return found


def test_it_is_the_percentile_interval_of_the_pooled_ccc_over_resampled_videos():
    series = videos(9)
    generator = np.random.default_rng(77)  # another stream than the program's: only the distribution is the same
    means = []
    for _ in range(4000):
        drawn = [series[index] for index in generator.integers(0, 9, 9)]
        x, y = (np.concatenate([item[part] for item in drawn]) for part in (1, 2))
        means.append((lin(x[:, 0], y[:, 0]) + lin(x[:, 1], y[:, 1])) / 2)
    found = interval(series, resamples=4000)
    assert found["mean"] == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.015)
    assert found["level"] == 0.95
    assert found["videos"] == 9


def test_the_same_call_gives_the_same_interval_and_it_holds_the_score():
    series = videos(30)
    found = interval(series)
    assert found == interval(series)
    for axis, name in enumerate(("valence", "arousal")):
        x, y = (np.concatenate([item[part] for item in series]) for part in (1, 2))
        low, high = found[name]
        assert low < lin(x[:, axis], y[:, axis]) < high


def test_frames_of_one_video_do_not_narrow_it():
    few = videos(8, frames=(50, 51))
    many = [(name, np.repeat(x, 20, axis=0), np.repeat(y, 20, axis=0)) for name, x, y in few]
    assert interval(many)["mean"] == pytest.approx(interval(few)["mean"])


def test_the_people_of_one_video_are_drawn_together():
    assert [source_video(name) for name in ("a_left", "a_right", "a", "left", "_left", "b_1")] == [
        *("a", "a", "a", "left", "_left", "b_1")
    ]
    (_, x, y), (_, v, w) = videos(2)
    assert interval([("a_left", x, y), ("a_right", v, w)])["mean"] is None
    assert interval([("a_left", x, y), ("b_right", v, w)])["mean"] is not None


def test_undefined_where_there_is_one_video_or_nothing_varies():
    (name, x, y), *_ = videos(1)
    alone = interval([(name, x, y), ("empty", x[:0], y[:0])])
    assert (alone["valence"], alone["arousal"], alone["mean"], alone["videos"]) == (None, None, None, 1)
    assert interval([])["mean"] is None
    same = np.full((10, 2), 0.1)
    assert interval([("a", same, same), ("b", same, same)])["mean"] is None


def test_a_large_offset_costs_nothing():
    near = [(name, x.astype(np.float64), y.astype(np.float64)) for name, x, y in videos(12)]
    far = [(name, x + 1e6, y + 1e6) for name, x, y in near]
    assert interval(far)["mean"] == pytest.approx(interval(near)["mean"], abs=1e-6)
