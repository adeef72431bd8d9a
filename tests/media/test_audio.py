"""Sound lies on the picture's clock: offset, silence, resampling, mono, and streaming that changes nothing."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.clips import write_clip
from vaprompt.errors import MediaError
from vaprompt.media import audio
from vaprompt.media.audio import audio_windows, has_audio, sound_extent
from vaprompt.media.clock import has_picture, row_times

RATE = 16000


def tone(seconds, hertz=440.0, rate=44100, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def windows(path, ends, window=1.0, rate=RATE):
    return list(audio_windows(path, np.array(ends, dtype=np.float64), window=window, rate=rate))


def lossless(path, **how):
    """Write a clip whose sound comes back sample by sample."""
    return write_clip(path, audio="pcm_s16le", **how)


def loud(wave_L):
    """Return the seconds at which the wave begins and stops to be more than silence."""
    where = np.flatnonzero(np.abs(wave_L) > 0.02)
    return where[0] / RATE, (where[-1] + 1) / RATE


def test_a_window_is_the_sound_before_its_end(tmp_path):
    path = lossless(tmp_path / "a.mov", sound=tone(3, rate=RATE), sound_rate=RATE)
    whole = tone(3, rate=RATE)[:, 0]
    for end, window_L in zip((1.0, 1.5, 3.0), windows(path, (1.0, 1.5, 3.0)), strict=True):
        assert window_L.dtype == np.float32
        stop = round(end * RATE)
        np.testing.assert_allclose(window_L, whole[stop - RATE : stop], atol=1e-4)


def test_resampling_keeps_time_and_pitch(tmp_path):
    path = lossless(tmp_path / "a.mov", sound=tone(3, rate=44100))
    (window_L,) = windows(path, (2.0,))
    expected = 0.5 * np.sin(2 * np.pi * 440 * (1 + np.arange(RATE) / RATE))
    np.testing.assert_allclose(window_L, expected, atol=2e-3)


def test_stereo_becomes_the_mean_of_its_channels(tmp_path):
    sound = np.concatenate((tone(2, rate=RATE), np.zeros((2 * RATE, 1))), axis=1)
    (window_L,) = windows(lossless(tmp_path / "a.mov", sound=sound, sound_rate=RATE), (1.5,))
    np.testing.assert_allclose(window_L, sound[RATE // 2 : RATE // 2 + RATE, 0] / 2, atol=1e-4)


@pytest.mark.parametrize("channels", [6, 8, 16])
def test_surround_sound_becomes_the_mean_of_its_channels(tmp_path, channels):
    """Of 8 channels and more, the process died."""
    sound = tone(2, rate=RATE) * (np.arange(channels) == channels - 1)
    (window_L,) = windows(lossless(tmp_path / "a.mov", sound=sound, sound_rate=RATE), (1.5,))
    np.testing.assert_allclose(window_L, sound[RATE // 2 : RATE // 2 + RATE].mean(axis=1), atol=1e-4)


def test_before_zero_and_after_the_end_there_is_silence(tmp_path):
    path = lossless(tmp_path / "a.mov", sound=tone(2, rate=RATE), sound_rate=RATE, times_ms=range(0, 5000, 40))
    before, start, end, after = windows(path, (-1.0, 0.5, 2.5, 4.5))
    assert not before.any()
    assert not after.any()
    assert not start[: RATE // 2].any()
    assert loud(start)[0] == pytest.approx(0.5, abs=0.01)
    assert loud(end)[1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("first_ms", "sound_start"), [(0, 0.75), (500, 0.0), (400, 1.2)])
def test_streams_that_start_apart_are_heard_apart(tmp_path, first_ms, sound_start):
    """The sound's own start is honoured, against the first frame and not against the file's zero."""
    path = lossless(
        tmp_path / "a.mov",
        sound=tone(2, rate=RATE),
        sound_rate=RATE,
        sound_start=sound_start,
        times_ms=range(first_ms, 4000, 40),
    )
    (window_L,) = windows(path, (3.0,), window=4.0)
    begin, end = sound_start - first_ms / 1000, sound_start + 2 - first_ms / 1000
    assert loud(window_L) == (pytest.approx(1 + begin, abs=0.01), pytest.approx(1 + end, abs=0.01))
    assert sound_extent(path) == (pytest.approx(begin, abs=0.002), pytest.approx(end, abs=0.002))


def test_a_gap_in_the_sound_is_silence_and_what_follows_stays_in_place(tmp_path, monkeypatch):
    decode = audio._decode

    def with_a_gap(*given):
        for seconds, piece in decode(*given):
            if not 1.0 <= seconds < 2.0:
                yield seconds, piece

    path = lossless(tmp_path / "a.mov", sound=tone(3, rate=RATE), sound_rate=RATE)
    (undisturbed,) = windows(path, (3.0,))
    monkeypatch.setattr(audio, "_decode", with_a_gap)
    gap, after = windows(path, (2.0, 3.0))
    assert not gap[RATE // 10 :].any()
    np.testing.assert_allclose(after[RATE // 10 :], undisturbed[RATE // 10 :], atol=1e-4)


def test_a_packet_that_was_lost_is_silence_and_what_follows_stays_in_place(tmp_path):
    """Of Opus a packet is 20 ms, and all later sound was that much early."""
    sound = np.zeros((3 * 48000, 1))
    sound[: 48000 // 2] = sound[2 * 48000 : 2 * 48000 + 480] = 0.8
    whole, holed = (
        write_clip(tmp_path / "whole.mkv", sound=sound, sound_rate=48000, audio="libopus"),
        tmp_path / "a.mkv",
    )
    with av.open(str(whole)) as source, av.open(str(holed), "w") as target:
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        heard = 0
        for packet in source.demux():
            heard += packet.stream.type == "audio"
            if packet.size and not (packet.stream.type == "audio" and heard in (60, 80)):
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    for path in (whole, holed):
        (later_L,) = windows(path, (3.0,), window=1.5)
        assert 1.5 + loud(later_L)[0] == pytest.approx(2.0, abs=0.003)


@pytest.mark.parametrize("speed", [0.99, 0.998, 1.002, 1.01])
def test_sound_whose_time_stamps_drift_from_its_samples_stays_at_its_stamps(tmp_path, monkeypatch, speed):
    decode = audio._decode
    monkeypatch.setattr(
        audio, "_decode", lambda *given: ((seconds * speed, piece) for seconds, piece in decode(*given))
    )
    sound = np.zeros((31 * RATE, 1))
    for second in (10, 20, 30):
        sound[second * RATE : second * RATE + RATE // 10] = 0.5
    (whole,) = windows(lossless(tmp_path / "a.mov", sound=sound, sound_rate=RATE), (32.0,), window=32.0)
    for second in (10, 20, 30):
        begin = round((second - 1) * speed * RATE)
        begins, _ = loud(whole[begin : begin + 2 * RATE])
        assert begin / RATE + begins == pytest.approx(second * speed, abs=audio.GAP_SECONDS + 0.001)


def test_time_stamps_that_are_rounded_leave_no_seam(tmp_path, monkeypatch):
    path = lossless(tmp_path / "a.mov", sound=tone(10), sound_rate=44100)
    whole = list(audio.sound_pieces(path))
    decode = audio._decode
    monkeypatch.setattr(audio, "_decode", lambda *given: ((round(at, 2), piece) for at, piece in decode(*given)))
    for (place, piece_L), (expected, expected_L) in zip(audio.sound_pieces(path), whole, strict=True):
        assert place == expected
        np.testing.assert_array_equal(piece_L, expected_L)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_streaming_equals_reading_at_once(tmp_path, name):
    path = write_clip(
        tmp_path / name,
        sound=tone(6, channels=2) * np.linspace(0, 1, 6 * 44100)[:, None],
        times_ms=range(0, 6000, 40),
        video="mpeg4" if name == "a.avi" else "libx264",
        audio="mp3" if name == "a.avi" else "aac",
    )
    (whole,) = windows(path, (7.0,), window=9.0)
    ends = np.arange(-1.0, 7.0, 0.37)
    for end, window_L in zip(ends, windows(path, ends), strict=True):
        stop = round(end * RATE) + 2 * RATE
        padded = np.concatenate((np.zeros(RATE, np.float32), whole))
        np.testing.assert_array_equal(window_L, padded[stop : stop + RATE])


@settings(max_examples=200)
@given(data=st.data())
def test_windows_together_are_the_windows_one_by_one_also_where_pieces_overlap(data):
    lengths = data.draw(st.lists(st.integers(1, 30), max_size=12))
    shifts = data.draw(st.lists(st.integers(-25, 25), min_size=len(lengths), max_size=len(lengths)))
    pieces, position = [], data.draw(st.integers(-40, 40))
    for number, (length, shift) in enumerate(zip(lengths, shifts, strict=True)):
        position += shift
        pieces.append((position, np.full(length, number + 1, np.float32) + np.arange(length, dtype=np.float32) / 100))
        position += length
    end_W = np.sort(np.array(data.draw(st.lists(st.integers(-30, 200), min_size=1, max_size=20)), dtype=np.float64))
    length, most, most_samples = (data.draw(st.integers(1, top)) for top in (40, 6, 120))

    def cut(most, most_samples):
        for some in audio._together(iter(pieces), end_W, float(length), 1, most, most_samples):
            assert len(some.start_K) <= most
            assert len(some.sound_M) <= max(length, most_samples)
            yield from (some.sound_M[start : start + length] for start in some.start_K)

    alone = list(cut(1, 0))
    assert len(alone) == len(end_W)
    np.testing.assert_array_equal(list(cut(most, most_samples)), alone)


def test_memory_is_one_window_whatever_the_length(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "long.mp4", sound=tone(120), times_ms=range(0, 120000, 1000), size=(32, 32))
    held = []
    cut = audio.cut_pieces

    def watched(pieces, start, length):
        held.append(sum(len(wave) for _, wave in pieces))
        return cut(pieces, start, length)

    monkeypatch.setattr(audio, "cut_pieces", watched)
    assert len(windows(path, np.arange(0.0, 120.0, 3.0), window=10.0)) == 40
    assert max(held) < 1.1 * 10 * RATE


def test_without_an_audio_stream_there_is_silence(tmp_path):
    path = write_clip(tmp_path / "mute.mp4")
    assert not has_audio(path)
    assert sound_extent(path) is None
    assert [window_L.any() for window_L in windows(path, (0.0, 1.0))] == [False, False]


def test_a_silent_stream_is_a_stream(tmp_path):
    path = write_clip(tmp_path / "silent.mp4", sound=np.zeros((44100, 1)))
    assert has_audio(path)
    assert not windows(path, (1.0,))[0].any()


def test_ends_that_descend_are_our_own_mistake(tmp_path):
    with pytest.raises(ValueError, match="ascend"):
        windows(write_clip(tmp_path / "a.mp4"), (2.0, 1.0))


@pytest.mark.parametrize("content", [b"", b"valence,arousal\n" * 50])
def test_a_bad_file_is_one_line(tmp_path, content, capfd):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    for read in (has_audio, sound_extent, lambda path: windows(path, (1.0,))):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
    assert capfd.readouterr().err == ""


def test_the_real_clip_whose_sound_starts_late(clips):
    """Its sound lasts 4.0 s of 6.4 s of picture, and its stream starts 2.43 s after the first frame."""
    path = clips / "face_leaves_hevc_vfr.mov"
    assert sound_extent(path) == (pytest.approx(2.430, abs=0.001), pytest.approx(6.396, abs=0.001))
    early, late = windows(path, (2.4, 5.0), window=2.0)
    assert not early.any()
    assert np.abs(late).max() > 0.05


def test_real_clips_with_and_without_sound(clips):
    assert not has_audio(clips / "no_audio_stream.mp4")
    assert has_audio(clips / "silent_track.mp4")
    assert not windows(clips / "silent_track.mp4", (5.0,))[0].any()
    assert np.abs(windows(clips / "talk_25fps.mp4", (5.0,))[0]).max() > 0.1


def write_music(path: Path, *, cover: bool, begins: int = 8000) -> Path:
    """Write an m4a whose sound begins half a second late, with a cover if asked for."""
    sound = av.AudioFrame.from_ndarray((np.sin(np.arange(32000) * 0.05) * 8000).astype(np.int16)[None], "s16", "mono")
    sound.rate, sound.pts = 16000, begins
    picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
    picture.pts = 0
    with av.open(str(path), "w", format="mp4") as container:
        heard = container.add_stream("aac", rate=16000, layout="mono")
        if cover:
            seen = container.add_stream("mjpeg")
            seen.width, seen.height, seen.pix_fmt, seen.disposition = 64, 64, "yuvj420p", Disposition.attached_pic
            container.mux([*seen.encode(picture), *seen.encode(None)])
        container.mux([*heard.encode(sound), *heard.encode(None)])
    return path


def test_the_cover_of_a_piece_of_music_is_no_clock(tmp_path):
    with_cover, without = (write_music(tmp_path / f"{cover}.m4a", cover=cover) for cover in (True, False))
    assert not has_picture(with_cover)
    assert sound_extent(with_cover) == sound_extent(without)
    np.testing.assert_array_equal(row_times(with_cover, 10.0), row_times(without, 10.0))
    ends = np.arange(1, 5) / 2
    np.testing.assert_array_equal(
        list(audio_windows(with_cover, ends, window=0.5, rate=16000)),
        list(audio_windows(without, ends, window=0.5, rate=16000)),
    )


def test_a_format_that_is_not_read_is_told_with_those_that_are(tmp_path):
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
        frame.rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(MediaError, match=r"a\.flac: cannot be opened as any of the formats .* wav; .* to NEW\.wav"):
        sound_extent(tmp_path / "a.flac")
