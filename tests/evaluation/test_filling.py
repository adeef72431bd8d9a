"""Frames without a picture: where windows end, and where their values come from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vaprompt.evaluation.filling import fill_frames, picture_ends


def test_windows_end_at_pictures_alone():
    time = np.array([0.4, 0.5, 0.6, 3.4, 6.2, 9.0])
    ends = picture_ends(time, 10.0, seconds=4.0, stride=3.0, every=None)  # the grid: 0, 1, 4, 7, 10
    np.testing.assert_allclose(ends, [0.4, 0.6, 3.4, 6.2, 9.0])
    np.testing.assert_allclose(picture_ends(time, 10.0, seconds=4.0, stride=3.0, every=4), [0.4, 6.2, 9.0])


def test_frames_without_a_picture_are_filled_as_asked():
    time = np.arange(6) / 10
    have = time[[1, 4]]
    value = np.array([[0.0, 1.0], [0.3, -0.5]], np.float32)
    cases = {
        "interpolate": [0, 0, 0.1, 0.2, 0.3, 0.3],
        "previous": [0, 0, 0, 0, 0.3, 0.3],
        "nearest": [0, 0, 0, 0.3, 0.3, 0.3],
    }
    for fill, expected in cases.items():
        np.testing.assert_allclose(fill_frames(have, value, time, fill)[:, 0], expected, atol=1e-6)


@given(st.sets(st.integers(0, 60), min_size=1), st.sampled_from(["interpolate", "previous", "nearest"]))
def test_filling_keeps_what_is_there_and_stays_between_its_neighbours(kept, fill):
    time = np.arange(61) / 30
    rows = np.array(sorted(kept))
    value = np.random.default_rng(len(kept)).uniform(-1, 1, (len(rows), 2)).astype(np.float32)
    found = fill_frames(time[rows], value, time, fill)
    np.testing.assert_allclose(found[rows], value, atol=1e-6)
    for row in range(61):
        before, after = rows[rows <= row], rows[rows >= row]
        near = [found[side] for side in (before[-1:], after[:1]) if len(side)]
        near = np.concatenate(near)
        assert (found[row] >= near.min(axis=0) - 1e-6).all()
        assert (found[row] <= near.max(axis=0) + 1e-6).all()
