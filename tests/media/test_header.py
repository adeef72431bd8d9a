"""A file that was cut between two packets says by its header that something is missing."""

import re
import struct

import numpy as np
import pytest

from tests.media.clips import write_clip
from vaprompt.errors import MediaError
from vaprompt.media.video import frame_times

SECONDS = 4


def clip_of(path, *, sound=True):
    return write_clip(
        path,
        times_ms=range(0, 1000 * SECONDS, 40),
        sound=np.random.default_rng(0).uniform(-0.1, 0.1, (44100 * SECONDS, 1)) if sound else None,
        video="mpeg4" if path.suffix == ".avi" else "libx264",
        audio="mp3" if path.suffix == ".avi" else "aac",
    )


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4"])
@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, name, share):
    path = clip_of(tmp_path / name)
    content = path.read_bytes()
    for more in range(0, 40, 13):  # some of the cuts fall between packets
        path.write_bytes(content[: int(len(content) * share) + more])
        with pytest.raises(MediaError, match=r"cut off|cannot be decoded"):
            frame_times(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_an_mkv_cut_between_two_clusters_is_refused(tmp_path, share):
    """Nothing but the stated length tells of it: the last packet is whole."""
    path = tmp_path / "a.mkv"
    write_clip(path, times_ms=range(0, 20000, 40), options={"cluster_time_limit": "500"})
    content = path.read_bytes()
    starts = [found.start() for found in re.finditer(rb"\x1f\x43\xb6\x75", content)]
    assert len(starts) > 10
    path.write_bytes(content[: starts[int(share * len(starts))]])
    with pytest.raises(MediaError, match=r"is cut off: it ends at [\d.]+ s, and its header states 19\.96 s"):
        frame_times(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_an_avi_cut_between_two_frames_is_refused(tmp_path, share):
    path = clip_of(tmp_path / "a.avi", sound=False)
    content = path.read_bytes()
    starts = [found.start() for found in re.finditer(rb"00dc", content[: content.index(b"idx1")])]
    path.write_bytes(content[: starts[int(share * len(starts))]])
    with pytest.raises(MediaError, match=r"is cut off"):
        frame_times(path)


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4"])
def test_whole_files_pass_also_where_one_stream_ends_long_before_the_other(tmp_path, name):
    path = write_clip(
        tmp_path / name,
        times_ms=range(0, 2000, 40),
        sound=np.zeros((44100 * 8, 1)),
        video="mpeg4" if name == "a.avi" else "libx264",
        audio="mp3" if name == "a.avi" else "aac",
    )
    assert len(frame_times(path)) == 50


def test_a_header_that_is_off_by_a_few_frames_is_tolerated(tmp_path):
    path = clip_of(tmp_path / "a.mkv", sound=False)
    content = bytearray(path.read_bytes())
    where = content.index(b"\x44\x89\x88") + 3
    stated = struct.unpack(">d", content[where : where + 8])[0]
    for more, refused in ((380, False), (-3000, False), (600, True)):
        content[where : where + 8] = struct.pack(">d", stated + more)
        path.write_bytes(content)
        if refused:
            with pytest.raises(MediaError, match="cut off"):
                frame_times(path)
        else:
            assert len(frame_times(path)) == 100


def test_an_mkv_that_states_no_length_is_taken_as_it_is(tmp_path):
    """Browsers record such files."""
    path = write_clip(tmp_path / "a.mkv", options={"live": "1"})
    assert len(frame_times(path)) == 25


def test_a_hole_in_a_stream_is_not_told_as_a_missing_end(tmp_path):
    path = clip_of(tmp_path / "a.ts")
    pieces = [path.read_bytes()[start : start + 188] for start in range(0, path.stat().st_size, 188)]
    # Its packets of 188 bytes say which stream they are of (ISO/IEC 13818-1, section 2.4.3.2); 256 is the first.
    of_picture = [place for place, piece in enumerate(pieces) if int.from_bytes(piece[1:3], "big") & 0x1FFF == 256]
    del pieces[of_picture[len(of_picture) // 2]]
    path.write_bytes(b"".join(pieces))
    with pytest.raises(MediaError, match="a part of its video is missing near its time stamp"):
        frame_times(path)
