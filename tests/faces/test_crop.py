"""A crop shows the face upright, with eyes and mouth where Aff-Wild2's aligned crops have them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaprompt.faces.crop import TEMPLATE_P, cut, placements


def turned(x: float, y: float, side: float, angle: float) -> np.ndarray:
    """Return the landmarks, P x 2 in widths, of a face whose crop lies there."""
    point_P = x + 1j * y + np.exp(1j * angle) * (TEMPLATE_P - 56 * (1 + 1j)) / 112 * side
    return np.stack((point_P.real, point_P.imag), axis=1)


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(0.01, 2), st.floats(-3, 3))
def test_the_placement_is_what_the_landmarks_were_made_with(x, y, side, angle):
    np.testing.assert_allclose(placements(turned(x, y, side, angle)[None])[0], [x, y, np.log(side), angle], atol=1e-6)


@given(st.floats(0.15, 0.6), st.floats(-3, 3), st.sampled_from([32, 112, 160]))
@settings(max_examples=30)
def test_each_landmark_lands_on_its_place_in_the_template(side, angle, size):
    """Reference: a soft dot painted at a landmark must appear at the template's point, scaled to the crop."""
    landmark_P2 = turned(0.5, 0.4, side, angle)
    row_H, column_W = np.mgrid[0:400, 0:500]
    for point, target in zip(landmark_P2 * 500, TEMPLATE_P / 112 * size, strict=True):
        spread = side * 500 / 20
        dot = 250 * np.exp(-((column_W + 0.5 - point[0]) ** 2 + (row_H + 0.5 - point[1]) ** 2) / 2 / spread**2)
        crop = cut(np.repeat(dot[:, :, None], 3, axis=2).astype(np.uint8), placements(landmark_P2[None])[0], size)
        weight = crop[:, :, 0].astype(float) ** 2
        row, column = np.mgrid[0:size, 0:size] + 0.5
        assert (weight * column).sum() / weight.sum() == pytest.approx(target.real, abs=0.03 * size)
        assert (weight * row).sum() / weight.sum() == pytest.approx(target.imag, abs=0.03 * size)


@pytest.mark.parametrize("place", [(-3.0, 0.5), (0.5, 9.0), (0.02, 0.02), (0.99, 0.5)])
def test_what_lies_outside_the_picture_is_black(place):
    crop = cut(np.full((90, 120, 3), 200, np.uint8), np.array([*place, np.log(0.2), 0.3]), 64)
    assert crop.shape == (64, 64, 3)
    assert crop[0, 0].tolist() == [0, 0, 0] or crop[-1, -1].tolist() == [0, 0, 0]


def test_a_large_face_is_averaged_and_not_sampled():
    """A checkerboard of single pixels becomes grey, where picking pixels would leave stripes."""
    board = np.indices((800, 800)).sum(axis=0) % 2 * 255
    crop = cut(np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8), np.array([0.5, 0.5, np.log(0.8), 0.0]), 80)
    assert np.abs(crop.astype(int) - 127).max() <= 2


def test_a_crop_is_the_callers_own():
    """A network takes it as it is, and torch warns of what can only be read."""
    crop = cut(np.full((90, 120, 3), 200, np.uint8), np.array([0.5, 0.4, np.log(0.2), 0.3]), 64)
    assert crop.flags.writeable
    assert crop.flags.owndata
