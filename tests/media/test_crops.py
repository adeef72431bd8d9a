"""Face crops belong to the frame that their name says, whatever is missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vaprompt.errors import MediaError
from vaprompt.media.crops import list_crops, read_image


def write_crop(path, level=128):
    Image.new("RGB", (112, 112), (level, 0, 255 - level)).save(path, quality=95)
    return path


@settings(max_examples=30)
@given(frames=st.sets(st.integers(1, 47435), min_size=1, max_size=40))
def test_a_crop_keeps_its_frame_whatever_is_missing_before_it(tmp_path_factory, frames):
    """Fault 1: counting the files would shift everything after the first missing crop."""
    folder = tmp_path_factory.mktemp("crops")
    for frame in frames:
        (folder / f"{frame:05d}.jpg").touch()
    frame_N, paths = list_crops(folder)
    assert frame_N.dtype == np.int32
    assert frame_N.tolist() == sorted(frames)
    assert [path.name for path in paths] == [f"{frame:05d}.jpg" for frame in sorted(frames)]


def test_other_files_are_left_out(tmp_path):
    for name in ("00002.jpg", "10.PNG", "._00001.jpg", "Thumbs.db", "notes.txt", "face_00003.jpg"):
        (tmp_path / name).touch()
    assert list_crops(tmp_path)[0].tolist() == [2, 10]


def test_an_empty_folder_has_no_crops(tmp_path):
    frame_N, paths = list_crops(tmp_path)
    assert (len(frame_N), paths) == (0, [])


@pytest.mark.parametrize(("names", "word"), [(["00000.jpg"], "from 0"), (["00007.jpg", "7.jpg"], "is frame 7 too")])
def test_numbers_that_mean_nothing_are_refused(tmp_path, names, word):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(MediaError, match=word):
        list_crops(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="no such folder"):
        list_crops(tmp_path / "nowhere")


def test_pictures_come_as_red_green_blue(tmp_path):
    rgb_HWC = read_image(write_crop(tmp_path / "00001.jpg", level=200))
    assert (rgb_HWC.shape, rgb_HWC.dtype) == ((112, 112, 3), np.uint8)
    np.testing.assert_allclose(rgb_HWC.reshape(-1, 3).mean(axis=0), [200, 0, 55], atol=2)


def test_a_grey_picture_gets_three_channels(tmp_path):
    Image.new("L", (20, 10), 77).save(tmp_path / "00001.png")
    assert read_image(tmp_path / "00001.png").shape == (10, 20, 3)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut"])
def test_a_bad_picture_is_one_line(tmp_path, kind):
    path = tmp_path / "00001.jpg"
    if kind == "cut":
        content = write_crop(path).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "no picture")
    with pytest.raises(MediaError) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
