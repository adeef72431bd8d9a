"""What no camera records is refused in one line that names the value and the limit, before it costs anything."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import write_clip
from vaprompt.errors import MediaError
from vaprompt.media import container, crops, video
from vaprompt.media.audio import audio_windows, has_audio, sound_extent
from vaprompt.media.crops import list_crops, read_image, read_images
from vaprompt.media.video import frame_times, probe, read_frames


def refusal(read, path):
    with pytest.raises(MediaError) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert ";" in line, "the line ends with the remedy"
    return line


@pytest.mark.parametrize(
    ("times_ms", "words"),
    [
        ((0, 40, 80, 10**12), ("86400",)),
        ((0, 40, 80, 30 * 10**6), ("leap", "0.080 s", "30000.000 s", "600 s")),
    ],
)
def test_stray_time_stamps_are_refused(tmp_path, times_ms, words):
    """Laid over ten to the nine seconds, a grid of audio windows would take all memory."""
    path = write_clip(tmp_path / "a.mkv", times_ms=times_ms)
    for read in (frame_times, lambda path: list(read_frames(path))):
        line = refusal(read, path)
        for word in words:
            assert word in line


def test_a_long_pause_is_allowed(tmp_path):
    path = write_clip(tmp_path / "a.mkv", times_ms=(0, 40, 500_000, 500_040))
    assert frame_times(path).tolist() == pytest.approx([0, 0.04, 500, 500.04])


def test_an_mkv_is_no_longer_for_time_stamps_that_begin_late(tmp_path, monkeypatch):
    day = 86_400_000
    sound = np.zeros((44100, 1))
    path = write_clip(tmp_path / "a.mkv", times_ms=range(day, day + 1000, 40), sound=sound, sound_start=day / 1000)
    info = probe(path)
    assert info.duration == pytest.approx(1, abs=0.1)
    assert info.audio.duration == pytest.approx(1, abs=0.1)
    assert frame_times(path).tolist() == pytest.approx(np.arange(25) * 0.04)
    monkeypatch.setattr(container, "LONGEST_VIDEO", 0.5)
    assert "lasts 1 s by its header" in refusal(frame_times, path)
    # What is decoded counts, whatever the header made of it.
    monkeypatch.undo()
    monkeypatch.setattr(video, "LONGEST_VIDEO", 0.5)
    assert "has a frame at 0.52 s" in refusal(frame_times, path)


def test_more_frames_than_allowed_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MOST_FRAMES", 24)
    assert "24 frames" in refusal(frame_times, write_clip(tmp_path / "a.mp4"))
    monkeypatch.setattr(video, "MOST_FRAMES", 25)
    assert len(frame_times(tmp_path / "a.mp4")) == 25


def test_large_pictures_and_strips_are_refused(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "strip.mp4", size=(2000, 32), times_ms=(0, 40))
    for read in (probe, frame_times):
        assert "2000x32" in refusal(read, path)
    Image.new("RGB", (3300, 100)).save(tmp_path / "1.png")
    assert "3300x100" in refusal(read_image, tmp_path / "1.png")
    monkeypatch.setattr(container, "LARGEST_PICTURE", 64 * 48 - 1)
    assert "64x48" in refusal(probe, write_clip(tmp_path / "a.mp4"))
    Image.new("RGB", (64, 48)).save(tmp_path / "1.jpg")
    assert "64x48" in refusal(read_image, tmp_path / "1.jpg")


def test_a_picture_of_a_claimed_size_takes_no_memory(tmp_path):
    """65,500 x 65,500 pixels would be 13 GB; the header alone is enough to refuse them."""
    path = tmp_path / "1.jpg"
    Image.new("RGB", (64, 48)).save(path)
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = (65500).to_bytes(2, "big") * 2
    path.write_bytes(content)
    assert "65500x65500 exceeds 8192x8192" in refusal(read_image, path)


def test_a_picture_that_is_drawn_a_thousand_times_is_refused(tmp_path):
    path = tmp_path / "1.jpg"
    Image.new("L", (640, 480), 100).save(path, progressive=True)
    assert read_image(path).shape == (480, 640, 3)
    content = path.read_bytes()
    scan = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + scan * 1000 + content[-2:])
    assert "100 passes" in refusal(read_image, path)


def test_a_huge_picture_file_is_refused_unread(tmp_path):
    path = tmp_path / "1.jpg"
    Image.new("RGB", (64, 48)).save(path)
    os.truncate(path, 2**40)  # a hole, which takes no room
    assert str(2**40) in refusal(read_image, path)


def test_a_folder_of_too_many_crops_is_refused(tmp_path, monkeypatch):
    for frame in (1, 2, 3):
        (tmp_path / f"{frame}.jpg").touch()
    monkeypatch.setattr(crops, "MOST_CROPS", 2)
    assert "more than the 2" in refusal(list_crops, tmp_path)
    monkeypatch.setattr(crops, "MOST_CROPS", 3)
    assert len(list_crops(tmp_path)[1]) == 3


@pytest.mark.parametrize(
    ("name", "limit", "word"),
    [("SOUND_RATES", (4000, 44000), "44100"), ("MOST_CHANNELS", 1, "2 channels")],
)
def test_sound_beyond_a_limit_is_refused(tmp_path, monkeypatch, name, limit, word):
    path = write_clip(tmp_path / "a.mp4", sound=np.zeros((44100, 2)))
    assert has_audio(path)
    monkeypatch.setattr(container, name, limit)
    for read in (has_audio, probe, sound_extent, windows):
        assert word in refusal(read, path)


def windows(path):
    return list(audio_windows(path, np.array([1.0]), window=1.0))


@pytest.mark.parametrize(("at", "word"), [(2 * 10**6, "86400"), (-0.5, "run backwards")])
def test_stray_time_stamps_of_sound_are_refused(tmp_path, monkeypatch, at, word):
    import vaprompt.media.audio as audio

    path = write_clip(
        tmp_path / "a.mov", sound=np.zeros((3 * 44100, 1)), times_ms=range(0, 3000, 40), audio="pcm_s16le"
    )
    packets = audio.packets

    def strayed(container, stream, *rest):
        for number, packet in enumerate(packets(container, stream, *rest)):
            if number == 100 and packet.pts is not None:
                packet.pts = round(at / packet.time_base)
            yield packet

    monkeypatch.setattr(audio, "packets", strayed)
    for read in (sound_extent, lambda path: list(audio_windows(path, np.array([3.0]), window=1.0))):
        assert word in refusal(read, path)


def _special(kind, folder):
    path = folder / "a.mp4"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            return Path("/dev/zero")
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "link to itself":
            path.symlink_to(path)
        case "zero in the name":
            return Path("a\0.mp4")
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "link to itself", "zero in the name"])
@pytest.mark.parametrize("read", [probe, frame_times, has_audio, sound_extent, windows, read_image])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind, read):
    refusal(read, _special(kind, tmp_path))


def test_a_socket_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("a.mp4")
        assert "is not a file" in refusal(probe, Path("a.mp4"))


def test_a_link_to_a_video_is_a_video(tmp_path):
    """Data sets are built of links; only stores hold none."""
    (tmp_path / "link.mp4").symlink_to(write_clip(tmp_path / "a.mp4"))
    assert len(frame_times(tmp_path / "link.mp4")) == 25


def test_a_name_that_is_no_text_is_no_trouble(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\xe9.mp4")
    write_clip(tmp_path / "a.mp4").rename(path)
    assert len(frame_times(path)) == 25


def test_pictures_in_a_row_come_in_order_up_to_the_first_that_is_broken(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    paths[35].write_bytes(b"broken")
    images = read_images(paths)
    assert [int(next(images)[0, 0, 0]) for _ in range(35)] == list(range(35))
    with pytest.raises(MediaError, match=r"35\.png"):
        next(images)
