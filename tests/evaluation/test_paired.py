"""Paired differences against a plain resampling of videos, and what is not compared."""

import numpy as np
import pytest

from tests.evaluation.definition import lin
from vaprompt.errors import RunError
from vaprompt.evaluation.paired import paired_difference, why_not_comparable


def models(count: int, *, second: float = 0.25, seed: int = 0):
    """Return two models' series on the same labels; their errors are partly shared, `second` is the other's own."""
    random = np.random.default_rng(seed)
    one, other = [], []
    for number in range(count):
        truth = random.normal(0, 0.3, 2) + 0.2 * random.normal(size=(random.integers(20, 60), 2))
        shared = truth + random.normal(0, 0.5, 2)
        one.append((f"v{number}", shared + random.normal(0, 0.25, truth.shape), truth))
        other.append((f"v{number}", shared + random.normal(0, second, truth.shape), truth))
    return one, other


def pooled(series) -> float:
    x, y = (np.concatenate([item[part] for item in series]) for part in (1, 2))
    return (lin(x[:, 0], y[:, 0]) + lin(x[:, 1], y[:, 1])) / 2


def test_it_is_the_difference_of_pooled_scores_with_its_percentiles_over_the_same_videos():
    one, other = models(9, second=0.1)
    random = np.random.default_rng(77)
    changes = []
    for _ in range(4000):
        drawn = random.integers(0, 9, 9)
        changes.append(pooled([other[index] for index in drawn]) - pooled([one[index] for index in drawn]))
    found = paired_difference(one, other, resamples=4000)
    assert found["mean"]["difference"] == pytest.approx(pooled(other) - pooled(one))
    assert found["mean"]["interval"] == pytest.approx(np.quantile(changes, (0.025, 0.975)), abs=0.015)
    assert found["mean"]["above"] == pytest.approx(np.mean(np.array(changes) > 0), abs=0.02)
    assert found["videos"] == 9
    assert found["level"] == 0.95


def test_the_order_of_videos_says_nothing_and_the_other_way_round_is_the_opposite():
    one, other = models(7)
    there, back = paired_difference(one, other[::-1]), paired_difference(other, one)
    for axis in ("valence", "arousal", "mean"):
        assert there[axis]["difference"] == pytest.approx(-back[axis]["difference"])
        low, high = there[axis]["interval"]
        assert back[axis]["interval"] == pytest.approx([-high, -low])
        assert there[axis]["above"] == pytest.approx(1 - back[axis]["above"])


def test_a_model_differs_from_itself_by_nothing():
    one, _ = models(6)
    found = paired_difference(one, one)
    assert found["mean"] == {"difference": 0.0, "interval": [0.0, 0.0], "above": 0.5}


def test_the_paired_interval_is_narrower_than_the_scores_own():
    from vaprompt.evaluation.bootstrap import interval

    one, other = models(12, second=0.3)
    low, high = paired_difference(one, other)["mean"]["interval"]
    own = interval(one)["mean"]
    assert high - low < 0.5 * (own[1] - own[0])


def test_one_source_video_has_a_difference_and_no_interval():
    one, other = models(1)
    found = paired_difference(one, other)
    assert found["mean"]["difference"] == pytest.approx(pooled(other) - pooled(one))
    assert found["mean"]["interval"] is found["mean"]["above"] is None


def test_undefined_scores_have_no_difference():
    same = np.full((10, 2), 0.1)
    found = paired_difference([("a", same, same), ("b", same, same)], [("a", same, same), ("b", same, same)])
    assert found["mean"] == {"difference": None, "interval": None, "above": None}
    assert paired_difference([], [])["mean"]["difference"] is None


def test_other_frames_are_not_compared_and_it_says_why():
    one, other = models(4)
    assert why_not_comparable(one, other) is None
    fewer = [(name, x[1:], y[1:]) if name == "v2" else (name, x, y) for name, x, y in other]
    frames = len(one[2][2])
    assert why_not_comparable(one, fewer) == f"{frames} frames of 'v2' are scored in one and {frames - 1} in the other"
    relabelled = [(name, x, y + 0.1 * (name == "v1")) for name, x, y in other]
    assert why_not_comparable(one, relabelled) == "the labels of 'v1' differ"
    assert why_not_comparable(one, other[1:]) == "1 videos are scored in one of them only, such as 'v0'"
    with pytest.raises(RunError, match=r"cannot be compared: the labels of 'v1' differ; evaluate both on one store"):
        paired_difference(one, relabelled)
