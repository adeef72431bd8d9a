"""Labels at their own times: interpolated between rows, never beyond them, valid only where both neighbours are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaprompt.datasets.timed import SAME, TimedAnnotation, interpolated
from vaprompt.errors import AnnotationError

HERE = Path("labels.csv")


@st.composite
def annotations(draw):
    """Rows at any rate with gaps and invalid ones, and the frames of a video at any, also variable, rate."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, frames = draw(st.integers(1, 60)), draw(st.integers(1, 200))
    time_R = draw(st.floats(-1, 3)) + np.cumsum(generator.uniform(0.01, draw(st.floats(0.02, 2)), rows))
    step_F = 1 / draw(st.floats(5, 60)) * (1 + draw(st.floats(0, 0.9)) * generator.uniform(-1, 1, frames))
    time_F = np.concatenate(([0.0], np.cumsum(step_F)))[:frames]
    valid_R = generator.random(rows) < draw(st.floats(0.2, 1))
    value_R2 = np.where(valid_R[:, None], generator.uniform(-1, 1, (rows, 2)), np.nan)
    return time_R, value_R2, valid_R, time_F


@given(annotations(), st.none() | st.floats(0.05, 2))
def test_every_frame_is_as_the_definition_says(drawn, longest_gap):
    time_R, value_R2, valid_R, time_F = drawn
    labels = interpolated(time_R, value_R2, valid_R, time_F, longest_gap=longest_gap)
    for frame, time in enumerate(time_F):
        distance_R = np.abs(time_R - time)
        if distance_R.min() < SAME * 0.999:
            row = int(distance_R.argmin())
            expected = value_R2[row] if valid_R[row] else None
        elif distance_R.min() < SAME * 1.001:
            continue
        elif time < time_R[0] or time > time_R[-1]:
            expected = None
        else:
            after = next(row for row in range(len(time_R)) if time_R[row] >= time)
            gap = time_R[after] - time_R[after - 1]
            if longest_gap is not None and abs(gap - longest_gap - SAME) < 1e-9:
                continue
            usable = valid_R[after - 1] and valid_R[after] and (longest_gap is None or gap <= longest_gap + SAME)
            share = (time - time_R[after - 1]) / gap
            expected = (1 - share) * value_R2[after - 1] + share * value_R2[after] if usable else None
        assert labels.valid_F[frame] == (expected is not None)
        np.testing.assert_allclose(labels.value_F2[frame], (-5, -5) if expected is None else expected, atol=1e-6)


@given(annotations())
def test_labels_stay_within_their_neighbours(drawn):
    time_R, value_R2, valid_R, time_F = drawn
    labels = interpolated(time_R, value_R2, valid_R, time_F)
    assert np.all(np.abs(labels.value_F2[labels.valid_F]) <= 1)
    assert not np.isnan(labels.value_F2).any()


def rows(position, values, *, by_frame=False, valid=None, **options) -> TimedAnnotation:
    value_R2 = np.array(values, float)
    valid_R = np.ones(len(value_R2), bool) if valid is None else np.array(valid)
    return TimedAnnotation(HERE, np.array(position, float), value_R2, valid_R, by_frame, **options)


def test_the_nearer_row_gets_the_greater_weight():
    labels, notes = rows([0, 1], [(0, 1), (1, -1)]).fitted(np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(labels.value_F2, [(0, 1), (0.25, 0.5), (1, -1)])
    assert notes == []


def test_nothing_is_extrapolated_and_it_is_noted():
    labels, notes = rows([0.5, 1.0], [(0.1, 0.2), (0.1, 0.2)]).fitted(np.arange(20) / 10)
    assert np.flatnonzero(labels.valid_F).tolist() == [5, 6, 7, 8, 9, 10]
    assert notes == ["labelled from 0.50 to 1.00 s: 14 of 20 frames lie outside and are not valid"]


def test_times_rounded_to_milliseconds_lose_no_frame():
    time_F = np.arange(90) / 30
    position = [float(f"{time:.3f}") for time in time_F]
    valid = [index % 3 != 0 for index in range(90)]
    labels, notes = rows(position, [(index / 100, 0) for index in range(90)], valid=valid).fitted(time_F)
    assert labels.valid_F.tolist() == valid
    np.testing.assert_allclose(labels.value_F2[valid, 0], np.arange(90)[valid] / 100, atol=1e-6)
    assert notes == []


def test_rows_of_frames_lie_at_the_frames_own_times():
    """Frames 1, 3 and 5 of a video whose rate varies: in between counts time, not the frame's number."""
    time_F = np.array([0, 0.03, 0.12, 0.15, 0.24])
    labels, _ = rows([1, 3, 5], [(0, 0), (0.4, 0.4), (0.8, 0.8)], by_frame=True).fitted(time_F)
    np.testing.assert_allclose(labels.value_F2[:, 0], [0, 0.1, 0.4, 0.5, 0.8], atol=1e-6)


def test_frames_that_share_a_time_stamp_keep_the_labels_of_their_own_rows():
    time_F = np.round(np.arange(40) / 2000, 3)
    value_R2 = np.linspace(-1, 1, 80).reshape(40, 2)
    valid_R = np.arange(40) % 3 > 0
    given = TimedAnnotation(HERE, np.arange(1.0, 41), value_R2, valid_R, by_frame=True)
    labels, _ = given.fitted(time_F)
    np.testing.assert_array_equal(labels.valid_F, valid_R)
    np.testing.assert_array_equal(labels.value_F2, np.where(valid_R[:, None], value_R2, -5).astype(np.float32))


def test_a_few_rows_behind_the_end_are_noted_and_many_are_an_error():
    time_F = np.arange(100) / 25
    labels, notes = rows(range(1, 106), [(0, 0)] * 105, by_frame=True).fitted(time_F)
    assert labels.valid_F.all()
    assert notes == ["5 rows behind the last of 100 frames are not used"]
    with pytest.raises(AnnotationError, match=r"labels.csv: has rows up to frame 120, but the video has 100 frames"):
        rows(range(1, 121), [(0, 0)] * 120, by_frame=True).fitted(time_F)
    with pytest.raises(AnnotationError, match=r"up to 3960.00 s, but the video's last frame is at 3.96 s.*seconds"):
        rows([0, 3960], [(0, 0)] * 2).fitted(time_F)


def test_a_long_gap_is_left_open_where_asked():
    time_F = np.arange(0, 50) / 10
    near = rows([0, 1, 4, 4.9], [(0, 0)] * 4, longest_gap=2.0).fitted(time_F)[0]
    assert np.flatnonzero(~near.valid_F).tolist() == list(range(11, 40))
    assert rows([0, 1, 4, 4.9], [(0, 0)] * 4).fitted(time_F)[0].valid_F.all()


def test_rows_that_all_lie_elsewhere_leave_no_valid_frame():
    labels, notes = rows([-3, -2], [(0, 0)] * 2).fitted(np.arange(5) / 10)
    assert not labels.valid_F.any()
    assert "5 of 5 frames" in notes[0]
