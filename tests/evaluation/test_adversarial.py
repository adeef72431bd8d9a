"""Scores on the cases that trip implementations up, against exact arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.definition import exact_lin, lin
from vaprompt.evaluation.protocols import Judged, official


def judged(prediction, truth, valid=None, name="v"):
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    valid = np.ones(len(truth), bool) if valid is None else np.asarray(valid)
    none = np.zeros((0, 2), np.float32)
    time = np.arange(len(truth)) / 30
    return Judged(name, time, prediction, truth, valid, none, none, np.zeros(0, np.int64))


def require_exact(found, prediction, truth, within=1e-9):
    expected = [exact_lin(prediction[:, axis], truth[:, axis]) for axis in (0, 1)]
    mean = None if None in expected else sum(expected) / 2
    for name, value in zip(("valence", "arousal", "mean"), (*expected, mean), strict=True):
        assert found[name] == (None if value is None else pytest.approx(value, abs=within)), name
    assert found["frames"] == len(truth)


value = st.floats(-1, 1, width=32)
pair = st.tuples(value, value)


@given(st.lists(st.tuples(pair, pair, st.booleans()), min_size=1, max_size=40), st.integers(1, 4))
def test_any_predictions_labels_and_gaps_over_any_number_of_videos(rows, count):
    prediction = np.array([row[0] for row in rows], np.float32)
    truth = np.array([row[1] for row in rows], np.float32)
    valid = np.array([row[2] for row in rows])
    truth[~valid] = -5
    parts = np.array_split(np.arange(len(rows)), count)
    videos = [judged(prediction[part], truth[part], valid[part], str(index)) for index, part in enumerate(parts)]
    require_exact(official(videos), prediction[valid], truth[valid])


def test_a_constant_prediction_scores_zero_and_two_equal_constants_are_undefined():
    truth = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)
    constant = np.full((200, 2), 0.1, np.float32)
    assert official([judged(constant, truth)]) == {"valence": 0, "arousal": 0, "mean": 0, "frames": 200}
    assert official([judged(constant, constant)])["mean"] is None
    half = np.stack((truth[:, 0], constant[:, 1]), axis=1)
    found = official([judged(half, half)])
    assert (found["valence"], found["arousal"], found["mean"]) == (pytest.approx(1), None, None)


def test_constant_in_each_video_but_not_over_all():
    low, high = np.full((50, 2), -0.5, np.float32), np.full((70, 2), 0.5, np.float32)
    videos = [judged(low + np.float32(0.1), low, name="a"), judged(high, high, name="b")]
    assert official(videos[:1])["mean"] == 0
    found = official(videos)
    require_exact(found, np.concatenate((low + np.float32(0.1), high)), np.concatenate((low, high)))
    assert found["mean"] > 0.9


def test_nothing_but_invalid_frames_is_undefined_and_never_minus_five():
    truth = np.full((30, 2), -5, np.float32)
    prediction = np.zeros((30, 2), np.float32)
    none = {"valence": None, "arousal": None, "mean": None, "frames": 0}
    assert official([judged(prediction, truth, np.zeros(30, bool))]) == none
    scored = np.random.default_rng(1).uniform(-1, 1, (40, 2)).astype(np.float32)
    videos = [judged(prediction, truth, np.zeros(30, bool), "a"), judged(scored / 2, scored, name="b")]
    require_exact(official(videos), scored / 2, scored)


def test_one_valid_frame():
    truth = np.full((9, 2), -5, np.float32)
    valid = np.zeros(9, bool)
    truth[4], valid[4] = (0.25, -0.5), True
    prediction = np.full((9, 2), 0.25, np.float32)
    found = official([judged(prediction, truth, valid)])
    assert found == {"valence": None, "arousal": 0, "mean": None, "frames": 1}


@pytest.mark.parametrize("offset", [1e3, -1e6, 1e9])
def test_huge_offsets(offset):
    generator = np.random.default_rng(2)
    truth = generator.uniform(-1, 1, (300, 2))
    prediction = truth + generator.normal(0, 0.2, truth.shape)
    # A double keeps 16 digits: at 1e9 the mean itself is off by 1e-7.
    shifted = (prediction + offset, truth + offset)
    require_exact(official([judged(*shifted)]), *shifted, within=1e-8)
    require_exact(official([judged(prediction + offset, truth)]), prediction + offset, truth)


def test_single_against_double_precision_at_400_000_frames():
    generator = np.random.default_rng(3)
    truth = (0.7 + 0.01 * generator.standard_normal((400_000, 2))).astype(np.float32)
    prediction = (truth + 0.004 * generator.standard_normal(truth.shape)).astype(np.float32)
    parts = np.array_split(np.arange(len(truth)), 76)
    single = official([judged(prediction[part], truth[part], name=str(part[0])) for part in parts])
    double = official([judged(prediction.astype(np.float64), truth.astype(np.float64))])
    for axis, name in enumerate(("valence", "arousal")):
        assert single[name] == pytest.approx(double[name], abs=1e-12)
        assert single[name] == pytest.approx(lin(prediction[:, axis], truth[:, axis]), abs=1e-10)
    assert single["frames"] == 400_000
