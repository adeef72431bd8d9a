"""Predictions of people whose faces are found in the video: who, when, and what is said where there is no face."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.faces.people import Scripted
from tests.media.clips import write_clip
from tests.prediction.cheap import use
from vaprompt.errors import DetectorError, TargetError
from vaprompt.faces import detector as detection
from vaprompt.faces.detector import CenterFace
from vaprompt.prediction import predict as module
from vaprompt.prediction.predict import NO_FACE, WHOLE_FRAMES, predict

LEFT, RIGHT = (0.9, 0.3, 0.4, 0.2), (0.9, 0.7, 0.4, 0.3)


def rows(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    return header, np.array(lines, float)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", times_ms=range(0, 8000, 40))


def test_a_face_is_marked_and_gaps_are_filled_on_a_straight_line(clip, monkeypatch, tmp_path):
    use(monkeypatch, detector=Scripted(lambda time: [] if 3.1 < time < 5.1 else [LEFT]))
    (video,) = predict(Path("run"), [clip], tmp_path / "out").done
    header, table = rows(video.csv)
    assert header == ["frame", "time", "valence", "arousal", "face"]
    gone = np.flatnonzero(table[:, 4] == 0)
    assert gone.tolist() == list(range(76, 130))
    for column in (2, 3):
        expected = np.interp(table[gone, 1], table[[75, 130], 1], table[[75, 130], column])
        np.testing.assert_allclose(table[gone, column], expected, atol=2e-6)
    assert "no face in 54 of 200 frames, filled by interpolation: 3.04 to 5.16 s" in video.notes
    assert WHOLE_FRAMES not in video.notes


def test_a_window_can_end_at_every_frame_and_the_result_says_so(clip, monkeypatch, tmp_path):
    use(monkeypatch, faces="frames")
    (strided,) = predict(Path("run"), [clip], tmp_path / "strided").done
    (dense,) = predict(Path("run"), [clip], tmp_path / "dense", every=1).done
    (third,) = predict(Path("run"), [clip], tmp_path / "third", every=3).done
    assert dense.interpolation == "a window ends at every frame; nothing is interpolated"
    assert third.interpolation == "windows end every 3 frames; frames between by time"
    assert strided.interpolation == "windows end every 1.5 s; frames between by time"
    ends = np.union1d(np.arange(0, 200, 3), [199])
    np.testing.assert_allclose(third.value_F2[ends], dense.value_F2[ends], atol=1e-5)
    between = np.interp(dense.time_F, dense.time_F[ends], dense.value_F2[ends, 0])
    np.testing.assert_allclose(third.value_F2[:, 0], between, atol=1e-5)
    assert np.abs(strided.value_F2 - dense.value_F2).max() > 1e-4


def test_each_of_several_people_gets_a_file(clip, monkeypatch, tmp_path):
    use(monkeypatch, detector=Scripted(lambda time: [LEFT, RIGHT] if time < 4 else [RIGHT]))
    first, second = predict(Path("run"), [clip], tmp_path / "out", person="all").done
    assert [video.csv.name for video in (first, second)] == ["clip.person1.csv", "clip.person2.csv"]
    assert [video.person for video in (first, second)] == [1, 2]
    assert rows(first.csv)[1][:, 4].all()
    assert rows(second.csv)[1][:, 4].sum() == 96
    use(monkeypatch, detector=Scripted(lambda time: [LEFT, RIGHT] if time < 4 else [RIGHT]))
    (only,) = predict(Path("run"), [clip], tmp_path / "one").done
    np.testing.assert_allclose(only.value_F2, first.value_F2, atol=1e-5)
    assert any("2 people" in note for note in only.notes)


@pytest.mark.parametrize("turn", [1, -1])
def test_no_video_gets_the_name_of_another_ones_person(clip, monkeypatch, tmp_path, turn):
    use(monkeypatch, detector=Scripted(lambda time: [LEFT, RIGHT]))
    shutil.copy(clip, other := tmp_path / f"{clip.stem}.person1.mp4")
    media = [clip, other][::turn]
    with pytest.raises(
        TargetError, match=r"clip\.person1\.csv: would be written for both .*clip\.mp4 and .*person1\.mp4"
    ):
        predict(Path("run"), media, tmp_path / "out", person="all")
    assert not (tmp_path / "out").exists()
    # Where nobody gets a file of their own, no name is taken.
    use(monkeypatch, faces="frames")
    assert len(predict(Path("run"), media, tmp_path / "out", faces="frames", person="all").done) == 2


def test_regions_and_gate_go_with_each_persons_windows_and_faces_with_their_places(clip, monkeypatch, tmp_path):
    def both(time: float) -> list[tuple[float, float, float, float]]:
        return [LEFT, RIGHT]

    use(monkeypatch, detector=Scripted(both))
    report = predict(Path("run"), [clip], tmp_path / "both", person="all", every=7)
    use(monkeypatch, detector=Scripted(both))
    (alone,) = predict(Path("run"), [clip], tmp_path / "alone", every=7).done
    assert report.regions.phrases[4] == "neutral and emotionally ordinary"
    for video in report.done:
        windows = video.windows
        np.testing.assert_allclose(windows.region_WK.sum(axis=1), 1, atol=1e-5)
        assert windows.gate_W is not None
        assert ((windows.gate_W > 0) & (windows.gate_W < 1)).all()
        for column in (0, 1):
            expected = np.interp(video.time_F, video.end_W, windows.value_W2[:, column].astype(float))
            np.testing.assert_allclose(video.value_F2[:, column], expected, atol=1e-6)
    np.testing.assert_allclose(report.done[0].windows.region_WK, alone.windows.region_WK, atol=1e-5)
    # RIGHT's face is the larger one, and so the first.
    places = [video.track.placement(3.0)[:2].round(3).tolist() for video in report.done if video.track is not None]
    assert places == [[0.7, 0.4], [0.3, 0.4]]


def test_a_video_without_a_face_is_predicted_whole_and_says_so_or_fails_if_asked(clip, monkeypatch, tmp_path):
    use(monkeypatch, detector=Scripted(lambda time: []))
    (video,) = predict(Path("run"), [clip], tmp_path / "out").done
    assert {NO_FACE, WHOLE_FRAMES} <= set(video.notes)
    assert not rows(video.csv)[1][:, 4].any()
    whole = predict(Path("run"), [clip], tmp_path / "whole", faces="frames").done[0]
    header, table = rows(whole.csv)
    assert header == ["frame", "time", "valence", "arousal"]
    np.testing.assert_array_equal(table, rows(video.csv)[1][:, :4])
    report = predict(Path("run"), [clip], tmp_path / "strict", faces="detect")
    assert "shows no face; use its whole frames with --faces frames" in report.failed[str(clip)]


def test_without_the_extra_whole_frames_are_used_and_one_line_says_how_to_get_it(clip, monkeypatch, tmp_path):
    use(monkeypatch)
    (video,) = predict(Path("run"), [clip], tmp_path / "out").done
    assert rows(video.csv)[0] == ["frame", "time", "valence", "arousal"]
    assert WHOLE_FRAMES in video.notes
    assert any("pip install 'vaprompt[faces]'" in note for note in video.notes)
    monkeypatch.setattr(module, "CenterFace", CenterFace)
    monkeypatch.setattr(detection, "_installed", lambda package: False)
    with pytest.raises(DetectorError, match="not installed"):
        predict(Path("run"), [clip], tmp_path / "no", faces="detect")


def test_a_run_on_whole_frames_needs_no_faces(clip, monkeypatch, tmp_path):
    use(monkeypatch, faces="frames", detector=Scripted(lambda time: [LEFT]))
    (video,) = predict(Path("run"), [clip], tmp_path / "out").done
    assert rows(video.csv)[0] == ["frame", "time", "valence", "arousal"]
    assert not any("face" in note for note in video.notes)


@pytest.mark.skipif(detection.missing() is not None, reason="the extra `faces` is not installed")
def test_the_face_that_leaves_half_way_is_reported_as_gone(clips, monkeypatch, tmp_path):
    use(monkeypatch, detector=CenterFace())
    (video,) = predict(Path("run"), [clips / "face_leaves_hevc_vfr.mov"], tmp_path / "out").done
    table = rows(video.csv)[1]
    there = table[:, 4] == 1
    assert there[table[:, 1] < 2.2].all()
    assert not there[table[:, 1] > 2.8].any()
    assert len(np.unique(table[~there, 2])) == 1, "held at the last value that was seen"
    assert any(note.startswith("no face in ") for note in video.notes)
