"""The detector's answers, decoded; and real faces, found by the real network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaprompt.errors import DetectorError
from vaprompt.faces import detector as module
from vaprompt.faces.detector import CenterFace, decode, missing, overlap
from vaprompt.media.video import read_frames

installed = pytest.mark.skipif(missing() is not None, reason="the extra `faces` is not installed")


def answers(faces: list[tuple[float, float, float, float, float]], rows: int = 24, columns: int = 32):
    """Return the network's answers that say: these faces, as score, centre x and y, width and height in pixels."""
    heat = np.zeros((rows, columns), np.float32)
    size, offset = np.zeros((2, rows, columns), np.float32), np.zeros((2, rows, columns), np.float32)
    landmark = np.zeros((10, rows, columns), np.float32)
    for score, x, y, width, height in faces:
        row, column = int(y // 4), int(x // 4)
        heat[row, column] = score
        size[:, row, column] = np.log((height / 4, width / 4))
        offset[:, row, column] = y / 4 - row - 0.5, x / 4 - column - 0.5
        landmark[:, row, column] = 0.4, 0.3, 0.4, 0.7, 0.6, 0.5, 0.8, 0.35, 0.8, 0.65  # y before x
    return heat, size, offset, landmark


def test_a_face_is_decoded_to_its_box_and_landmarks():
    faces = decode(*answers([(0.9, 61.0, 42.0, 20.0, 30.0)]), 0.5)
    np.testing.assert_allclose(faces.box_K4, [[51, 27, 71, 57]], atol=1e-4)
    np.testing.assert_allclose(faces.landmark_KP2[0, 0], [51 + 0.3 * 20, 27 + 0.4 * 30], atol=1e-4)
    np.testing.assert_allclose(faces.landmark_KP2[0, 4], [51 + 0.65 * 20, 27 + 0.8 * 30], atol=1e-4)


def test_neighbouring_answers_to_one_face_count_once_and_faces_apart_each():
    faces = decode(
        *answers([(0.6, 61, 42, 20, 30), (0.9, 65, 42, 20, 30), (0.7, 20, 40, 18, 24), (0.2, 100, 70, 9, 9)]), 0.5
    )
    np.testing.assert_allclose(faces.score_K, [0.9, 0.7], atol=1e-6)
    np.testing.assert_allclose(faces.box_K4[:, 0], [55, 11], atol=1e-4)


def test_a_picture_without_faces_gives_none():
    faces = decode(*answers([]), 0.5)
    assert faces.box_K4.shape == (0, 4)
    assert faces.landmark_KP2.shape == (0, 5, 2)


box = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2)


@given(box, box)
def test_overlap_is_counted_in_pixels(first, second):
    """Reference: paint both on a grid and count."""
    boxes = np.array([[x, y, x + width, y + height] for x, y, width, height in (first, second)], float)
    painted = np.zeros((2, 40, 40), bool)
    for index, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        painted[index, top:bottom, left:right] = True
    expected = (painted[0] & painted[1]).sum() / (painted[0] | painted[1]).sum()
    assert overlap(boxes[:1], boxes[1:])[0, 0] == pytest.approx(expected)


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda package: package != "onnx")
    assert "onnx missing" in missing()
    with pytest.raises(DetectorError, match=r"not installed \(onnx missing\); pip install 'vaprompt\[faces\]'"):
        CenterFace()


@installed
def test_a_real_face_is_found_once_upright_and_nothing_beside_it(clips):
    find = CenterFace()
    picture = next(frame.rgb_HWC for frame in read_frames(clips / "talk_30fps.mp4", max_side=320))
    faces = find(picture, 0.5)
    assert len(faces.score_K) == 1
    left, top, right, bottom = faces.box_K4[0]
    eye, other, nose, *mouth = faces.landmark_KP2[0]
    assert left < eye[0] < nose[0] < other[0] < right
    assert top < eye[1] < nose[1] < mouth[0][1] < bottom
    assert len(find(np.zeros((90, 160, 3), np.uint8), 0.3).score_K) == 0
    assert len(find.fingerprint["detector_weights"]) == 64
