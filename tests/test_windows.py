"""Windows: which label, which images and which sound belong to a time, for any frame rate and any gaps."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vaprompt.windows import cut_windows, grid_ends, interpolate


@st.composite
def videos(draw):
    """Frame times of a video of any (also variable) rate, the frames that have a crop, and an audio grid."""
    count = draw(st.integers(2, 300))
    rate = draw(st.floats(5, 60))
    jitter = draw(st.floats(0, 0.9))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    step = (1 / rate) * (1 + jitter * generator.uniform(-1, 1, count - 1))
    time_F = np.concatenate(([0.0], np.cumsum(step)))
    exists_F = generator.random(count) < draw(st.floats(0.05, 1))
    assume(exists_F.any())
    hop = draw(st.floats(0.2, 4))
    window = draw(st.floats(0.5, 6))
    first = window + hop * np.floor(-window / hop)
    audio_end_A = np.arange(first, time_F[-1] + 1e-9, hop)
    return time_F, np.flatnonzero(exists_F), audio_end_A, window


@given(videos(), st.floats(0.1, 3), st.integers(1, 30))
def test_a_window_sees_and_is_labelled_by_the_past_only(video, stride, frames):
    time_F, exists_N, audio_end_A, seconds = video
    ends = grid_ends(time_F[-1], seconds=seconds, stride=stride, padded=True)
    windows = cut_windows(
        ends,
        time_F=time_F,
        image_time_N=time_F[exists_N],
        audio_end_A=audio_end_A,
        seconds=seconds,
        frames=frames,
    )
    tolerance = 2e-6
    target_time = time_F[windows.target_W]
    assert (target_time <= ends + tolerance).all()
    after = np.append(time_F, np.inf)[windows.target_W + 1]
    assert (after > ends).all(), "the label is that of the frame on screen, not of an earlier one"
    chosen = time_F[exists_N][windows.image_WT]
    assert (np.diff(windows.image_WT, axis=1) >= 0).all()
    nothing_yet = ends + tolerance < time_F[exists_N][0]
    assert (chosen[~nothing_yet] <= ends[~nothing_yet, None] + tolerance).all()
    assert (chosen[windows.whole_W] > ends[windows.whole_W, None] - seconds - tolerance).all()
    assert (audio_end_A[windows.audio_W] <= ends + tolerance).all()
    following = np.append(audio_end_A, np.inf)[windows.audio_W + 1]
    assert (following > ends).all(), "no newer sound was at hand"


@given(videos(), st.floats(0.1, 3))
def test_padded_ends_cover_every_frame_and_plain_ones_start_with_a_whole_window(video, stride):
    time_F, _, _, seconds = video
    padded = grid_ends(time_F[-1], seconds=seconds, stride=stride, padded=True)
    assert padded[0] == 0
    assert padded[-1] == pytest.approx(time_F[-1], abs=2e-6)
    assert (np.diff(padded) > 0).all()
    assert (np.diff(padded) <= stride + 1e-5).all()
    plain = grid_ends(time_F[-1], seconds=seconds, stride=stride, padded=False)
    assert (plain >= seconds).all()
    assert (plain <= time_F[-1] + 2e-6).all()
    np.testing.assert_allclose(np.diff(plain), stride, atol=1e-9)


def test_twenty_frames_of_ten_seconds_are_evenly_spaced_from_the_first_to_the_last():
    time_F = np.arange(901) / 30
    windows = cut_windows(
        np.array([10.0, 13.0]),
        time_F=time_F,
        image_time_N=time_F,
        audio_end_A=np.array([-2.0, 1, 4, 7, 10, 13]),
        seconds=10.0,
        frames=20,
    )
    # (0 s, 10 s] at 30 frames a second holds indices 1 to 300.
    expected = 1 + np.rint(np.linspace(0, 299, 20)).astype(int)
    assert windows.image_WT[0].tolist() == expected.tolist()
    assert windows.target_W.tolist() == [300, 390]
    assert windows.audio_W.tolist() == [4, 5]
    assert windows.whole_W.all()


def test_frames_are_not_time():
    """Fault 4: 300 frames are 10 s at 30 frames a second only."""
    for rate in (6.0, 15.0, 25.0, 30.0):
        time_F = np.arange(int(40 * rate)) / rate
        windows = cut_windows(
            np.array([20.0]), time_F=time_F, image_time_N=time_F, audio_end_A=np.array([0.0]), seconds=10.0, frames=5
        )
        seen = time_F[windows.image_WT[0]]
        assert seen[0] == pytest.approx(10 + 1 / rate)
        assert seen[-1] == pytest.approx(20.0)


def test_missing_crops_do_not_shift_what_follows():
    """Fault 1: a frame keeps its time whatever is missing before it."""
    time_F = np.arange(400) / 25
    present = np.setdiff1d(np.arange(400), np.arange(100, 180))
    windows = cut_windows(
        np.array([12.0]),
        time_F=time_F,
        image_time_N=time_F[present],
        audio_end_A=np.array([0.0]),
        seconds=10.0,
        frames=20,
    )
    frames = present[windows.image_WT[0]]
    assert frames[-1] == 300
    assert not set(frames) & set(range(100, 180))


def test_a_window_that_begins_before_the_video_is_filled_with_the_first_frame():
    time_F = np.arange(101) / 10
    windows = cut_windows(
        np.array([4.0]), time_F=time_F, image_time_N=time_F, audio_end_A=np.array([0.0]), seconds=10.0, frames=20
    )
    assert not windows.whole_W[0]
    first_share = np.mean(windows.image_WT[0] == 0)
    assert first_share == pytest.approx(0.6, abs=0.06), "six of the ten seconds lie before the video"
    assert windows.image_WT[0, -1] == 40


def test_a_window_without_any_image_repeats_the_last_one_before_it():
    time_F = np.arange(300) / 10
    present = np.arange(50)
    windows = cut_windows(
        np.array([20.0]),
        time_F=time_F,
        image_time_N=time_F[present],
        audio_end_A=np.array([0.0]),
        seconds=10.0,
        frames=4,
    )
    assert windows.image_WT[0].tolist() == [49] * 4
    assert not windows.whole_W[0]


def test_interpolation_gives_the_nearer_neighbour_the_greater_weight():
    """Fault 2: with the weights swapped, the frame at 1 s would get the value of 2 s."""
    found = interpolate(np.array([0.0, 3.0]), np.array([[0.0, 1.0], [3.0, -1.0]]), np.array([0.0, 1.0, 2.5, 9.0]))
    np.testing.assert_allclose(found[:, 0], [0, 1, 2.5, 3], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], [1, 1 / 3, -2 / 3, -1], atol=1e-6)
