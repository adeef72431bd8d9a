"""Frames and their times: what the container says, whatever the name, the rate or the device that recorded it."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media.clips import grey
from vaprompt.errors import MediaError
from vaprompt.media.appearance import appearance
from vaprompt.media.audio import audio_windows
from vaprompt.media.video import frame_times, probe, read_frames

VARIABLE_MS = (0, 33, 67, 133, 166, 400, 410, 900, 933)


def test_times_are_the_containers_time_stamps(clip):
    """Faults 4 and 5: neither the frame's number nor a nominal rate is time."""
    path = clip("vfr.mp4", times_ms=VARIABLE_MS)
    np.testing.assert_allclose(frame_times(path), np.array(VARIABLE_MS) / 1000, atol=1e-9)


@pytest.mark.parametrize("rate", [6, 15, 25, 30])
def test_the_rate_in_a_name_means_nothing(clip, rate):
    """Fault 5: `10-60-1280x720` runs at whatever the container says, never at 60."""
    path = clip("10-60-1280x720.mp4", times_ms=[round(1000 * index / rate) for index in range(100)])
    np.testing.assert_allclose(frame_times(path), np.arange(100) / rate, atol=6e-4)
    assert probe(path).rate == pytest.approx(rate, rel=0.02)


def test_three_hundred_frames_are_not_ten_seconds(clip):
    """Fault 4: at 15 frames a second 300 frames last 20 s."""
    path = clip("slow.mp4", times_ms=[round(1000 * index / 15) for index in range(300)], size=(32, 32))
    assert frame_times(path)[299] == pytest.approx(299 / 15, abs=1e-3)


def test_zero_time_is_the_first_frame(clip):
    path = clip("late.mkv", times_ms=(240, 280, 360), sound=np.zeros((22050, 1)))
    np.testing.assert_allclose(frame_times(path), [0, 0.04, 0.12], atol=1e-9)


def test_every_frame_comes_once_in_order_with_its_own_picture(clip):
    frames = list(read_frames(clip("a.mp4")))
    assert [frame.frame for frame in frames] == list(range(1, 26))
    for frame in frames:
        assert frame.rgb_HWC.shape == (48, 64, 3)
        assert abs(int(np.median(frame.rgb_HWC)) - grey(frame.frame)) <= 3


def test_only_wanted_pictures_are_made_but_all_times_come(clip):
    path = clip("a.mp4")
    asked = []

    def wanted(frame, time):
        asked.append((frame, time))
        return frame % 10 == 3

    frames = list(read_frames(path, wanted=wanted))
    assert [frame.frame for frame in frames if frame.rgb_HWC is not None] == [3, 13, 23]
    assert asked == [(frame.frame, frame.time) for frame in frames]
    assert abs(int(np.median(frames[12].rgb_HWC)) - grey(13)) <= 3


def test_large_pictures_are_scaled_down_and_small_ones_left(clip):
    path = clip("a.mp4", size=(640, 360))
    assert next(read_frames(path, max_side=320)).rgb_HWC.shape == (180, 320, 3)
    assert next(read_frames(path, max_side=1000)).rgb_HWC.shape == (360, 640, 3)


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1)), (0, (0, 0))])
def test_lying_pictures_are_turned_upright(clip, rotation, corner):
    """The white corner, recorded upper left, ends where a player shows it (rotation counter-clockwise)."""
    try:
        path = clip("turned.mp4", rotation=rotation)
    except AttributeError:
        pytest.skip("this PyAV cannot write a rotation")
    rgb_HWC = next(read_frames(path)).rgb_HWC
    assert rgb_HWC.shape[:2] == ((64, 48) if abs(rotation) == 90 else (48, 64))
    assert rgb_HWC[corner[0], corner[1], 0] > 240


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("pixels", "turned", "seen"),
    [
        (Fraction(64, 45), 0, (48, 91)),  # PAL 16:9
        (Fraction(8, 9), 0, (54, 64)),  # NTSC 4:3
        (Fraction(2), 90, (128, 48)),
        (Fraction(4097, 4096), 0, (48, 64)),
        (Fraction(100), 0, (48, 64)),  # a header that is not believed
    ],
)
def test_pixels_that_are_no_squares_are_brought_into_shape(clip, container, pixels, turned, seen):
    """As a player shows it: faces would be too thin in what television and DV cameras record."""
    path = clip(f"a.{container}", pixels=pixels, rotation=turned)
    rgb_HWC = next(read_frames(path)).rgb_HWC
    assert rgb_HWC.shape[:2] == seen
    high, wide = np.ptp(np.argwhere(rgb_HWC[..., 0] > 150), axis=0) + 1  # the white corner of 8 x 8 pixels
    assert wide / high == pytest.approx(seen[1] / seen[0] * (64 / 48 if turned else 48 / 64), rel=0.2)
    assert appearance(path).shape == pytest.approx(seen[1] / seen[0], rel=0.02)
    assert max(next(read_frames(path, max_side=32)).rgb_HWC.shape) == 32


@pytest.mark.parametrize("name", ["old.avi", "b.mkv", "c.mov"])
def test_other_containers(clip, name):
    path = clip(name, video="mpeg4" if name == "old.avi" else "libx264", sound=np.zeros((44100, 2)))
    times = frame_times(path)
    assert len(times) == 25
    assert times[0] == 0
    assert np.all(np.diff(times) > 0)


@pytest.mark.parametrize(("codec", "held_back"), [("libx264", 0), ("libx264", 2), ("mpeg4", 0), ("mpeg4", 2)])
def test_an_avi_has_a_frame_in_each_slot(tmp_path, codec, held_back):
    """H.264's time stamps ran backwards with frames that are predicted from later ones, and sound was a frame early."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": str(held_back)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        heard = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        wave_1L = np.zeros((1, 32000), np.int16)
        wave_1L[0, 16000:16160] = 20000
        speech = av.AudioFrame.from_ndarray(wave_1L, format="s16", layout="mono")
        speech.sample_rate, speech.pts = 16000, 0
        container.mux([*heard.encode(speech), *heard.encode(None)])
        for number in range(1, 51):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey(number), np.uint8), format="rgb24")
            picture.pts, picture.time_base = number - 1, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames = list(read_frames(path))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25)
    for frame in frames:
        assert frame.rgb_HWC.mean() == pytest.approx(grey(frame.frame), abs=6)
    (wave_L,) = audio_windows(path, np.array([2.0]), window=2.0)
    assert np.flatnonzero(wave_L > 0.3)[0] / 16000 == pytest.approx(1.0, abs=1e-3)


def test_probe_says_what_the_header_says(clip):
    info = probe(clip("a.mp4", sound=np.zeros((44100, 2))))
    assert (info.width, info.height) == (64, 48)
    assert info.duration == pytest.approx(1.0, abs=0.05)
    assert (info.audio.rate, info.audio.channels) == (44100, 2)
    assert info.audio.start == pytest.approx(0, abs=0.05)
    late = probe(clip("late.mp4", sound=np.zeros((22050, 2)), sound_start=0.5))
    assert late.audio is not None
    assert late.audio.start == pytest.approx(0.5, abs=0.05)
    assert probe(clip("b.mp4")).audio is None


def _cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def _faulty(clip, tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    match kind:
        case "empty":
            path.touch()
        case "text":
            path.write_text("frame,time\n" * 100)
        case "playlist":
            inner = clip("inner.mp4")
            path.write_text(f"ffconcat version 1.0\nfile {inner.name}\n")
        case "folder":
            path.mkdir()
        case "index at the end, cut":
            _cut(clip(path.name), 0.6)
        case "index at the start, cut":
            _cut(clip(path.name, options={"movflags": "faststart"}, size=(320, 240)), 0.8)
        case "sound only":
            return _sound_only(tmp_path / "sound.mp4")
    return path


def _sound_only(path):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.int16), format="s16", layout="mono")
        frame.sample_rate = 44100
        for piece in (frame, None):
            for packet in stream.encode(piece):
                container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("text", "cannot be decoded"),
        ("playlist", "cannot be opened as any of the formats"),
        ("folder", "is not a file"),
        ("index at the end, cut", "is cut off"),
        ("index at the start, cut", "is cut off"),
        ("sound only", "no video stream"),
    ],
)
@pytest.mark.parametrize("read", [probe, frame_times])
def test_a_bad_file_is_one_line_that_names_it(clip, tmp_path, capfd, kind, word, read):
    path = _faulty(clip, tmp_path, kind)
    with pytest.raises(MediaError, match=word) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert ";" in line, "the line ends with the remedy"
    assert capfd.readouterr().err == "", "FFmpeg's own messages stay away"


def test_a_shortened_avi_is_refused_while_reading(clip):
    path = _cut(clip("a.avi", video="mpeg4", size=(320, 240)), 0.7)
    with pytest.raises(MediaError, match="cut off"):
        frame_times(path)


def test_time_stamps_that_run_backwards_are_refused(clip, monkeypatch):
    import vaprompt.media.video as video

    decode = video._decode
    monkeypatch.setattr(video, "_decode", lambda *given: reversed(list(decode(*given))))
    with pytest.raises(MediaError, match="run backwards"):
        list(read_frames(clip("a.mp4")))


# Frames and seconds of the real clips, from their own containers.
REAL = {
    "talk_25fps.mp4": (175, 6.96),
    "talk_30fps.mp4": (199, 6.6),
    "talk_vfr.mp4": (135, 6.066667),
    "expressive_34s.mp4": (1008, 33.566667),
    "expressive_18s.mp4": (536, 17.833333),
    "silent_track.mp4": (216, 7.166667),
    "no_audio_stream.mp4": (120, 3.970633),
    "face_leaves_hevc_vfr.mov": (169, 6.360352),
}


@pytest.mark.parametrize("name", REAL)
def test_real_clips_decode_to_their_last_frame(clips, name):
    times = frame_times(clips / name)
    assert (len(times), times[-1]) == (REAL[name][0], pytest.approx(REAL[name][1], abs=1e-5))
    assert np.all(np.diff(times) > 0)


def test_the_real_variable_rate_has_gaps_of_33_and_67_ms(clips):
    gaps_ms = np.unique(np.round(1000 * np.diff(frame_times(clips / "talk_vfr.mp4"))))
    np.testing.assert_array_equal(gaps_ms, [33, 67])
