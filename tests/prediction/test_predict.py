"""Prediction from a run alone: a row for each decoded frame, of drawn videos and of real clips."""

import csv
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import write_clip
from tests.prediction import cheap
from vaprompt.errors import FingerprintError, RunError, TargetError, VapromptError
from vaprompt.media.video import frame_times
from vaprompt.prediction.predict import WHOLE_FRAMES, predict

CLIPS = {
    "talk_25fps.mp4",
    "talk_30fps.mp4",
    "talk_vfr.mp4",
    "expressive_34s.mp4",
    "expressive_18s.mp4",
    "silent_track.mp4",
    "no_audio_stream.mp4",
    "face_leaves_hevc_vfr.mov",
}
FEW = {"talk_vfr.mp4", "silent_track.mp4", "no_audio_stream.mp4"}


def rows(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    return header, np.array(lines, float)


def media(small_dataset: Path) -> list[Path]:
    return sorted(path for path in small_dataset.rglob("*") if path.suffix in {".mp4", ".avi"})


def check(path: Path, source: Path) -> None:
    header, table = rows(path)
    times = frame_times(source)
    assert header == ["frame", "time", "valence", "arousal"]
    assert table[:, 0].tolist() == list(range(1, len(times) + 1))
    np.testing.assert_allclose(table[:, 1], times, atol=1e-6)
    assert np.isfinite(table).all()
    assert np.abs(table[:, 2:]).max() <= 1


def test_every_kind_of_drawn_video_gets_a_row_for_each_frame(small_run, small_dataset, tmp_path):
    files = media(small_dataset)
    report = predict(small_run, files, tmp_path / "out", faces="frames", device="cpu")
    assert report.failed == {}
    assert [video.media for video in report.done] == files
    for video in report.done:
        check(video.csv, video.media)
        assert WHOLE_FRAMES in video.notes
        assert any("drawn faces" in note for note in video.notes)
    assert any("silence" in note for video in report.done for note in video.notes), "one has no audio track"


@pytest.mark.parametrize("names", [FEW, pytest.param(CLIPS, marks=pytest.mark.slow)], ids=["few", "all"])
def test_every_real_clip_gets_a_row_for_each_frame(clips, small_run, tmp_path, names):
    files = sorted(path for path in clips.iterdir() if path.name in names)
    assert {path.name for path in files} == names
    report = predict(small_run, files, tmp_path / "out", faces="frames", device="cpu")
    assert report.failed == {}
    notes = {video.media.name: video.notes for video in report.done}
    for video in report.done:
        check(video.csv, video.media)
    assert any("no audio stream" in note for note in notes["no_audio_stream.mp4"])
    assert not any("no audio stream" in note for note in notes["silent_track.mp4"])


def test_files_that_are_no_video_are_listed_and_the_others_go_on(small_run, small_dataset, tmp_path):
    good = media(small_dataset)[0]
    bad = {"missing.mp4": None, "empty.mp4": b"", "text.mp4": b"hello", "cut.mp4": good.read_bytes()[:5000]}
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    report = predict(
        small_run, [*(tmp_path / name for name in bad), good], tmp_path / "out", faces="frames", device="cpu"
    )
    assert [video.media for video in report.done] == [good]
    assert set(report.failed) == {str(tmp_path / name) for name in bad}
    assert all(str(tmp_path) in reason and "\n" not in reason for reason in report.failed.values())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{good.stem}.csv"]


def test_a_folder_that_nothing_is_written_to_is_not_left_behind(small_run, tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"hello")
    report = predict(small_run, [tmp_path / "text.mp4"], tmp_path / "out", device="cpu")
    assert list(report.failed) == [str(tmp_path / "text.mp4")]
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    predict(small_run, [tmp_path / "text.mp4"], tmp_path / "mine", device="cpu")
    assert (tmp_path / "mine").is_dir(), "a folder that was there stays"


def test_what_is_wrong_with_files_and_target_is_known_before_anything_is_loaded(small_run, monkeypatch, tmp_path):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("vaprompt.prediction.predict.load_predictor", never)
    (tmp_path / "empty.mp4").write_bytes(b"")
    files = [tmp_path / "missing.mp4", tmp_path / "empty.mp4", tmp_path]
    report = predict(small_run, files, tmp_path / "out")
    assert list(report.failed) == [str(file) for file in files]
    assert not (tmp_path / "out").exists()
    with pytest.raises(RunError, match=f"is not a run.*such as {small_run.parent}/"):
        predict(small_run.parent, files, tmp_path / "out")
    with pytest.raises(RunError, match="no such folder"):
        predict(tmp_path / "run", files, tmp_path / "out")
    with pytest.raises(TargetError, match=r"empty\.mp4: is a file, where a folder is wanted; name another"):
        predict(small_run, files, tmp_path / "empty.mp4")


def test_two_files_of_one_name_do_not_overwrite_each_other(small_run, small_dataset, tmp_path):
    good = media(small_dataset)[0]
    (tmp_path / "a").mkdir()
    shutil.copy(good, tmp_path / "a" / good.name)
    with pytest.raises(TargetError, match="would be written for both"):
        predict(small_run, [good, tmp_path / "a" / good.name], tmp_path / "out", faces="frames", device="cpu")
    with pytest.raises(VapromptError, match="no media file"):
        predict(small_run, [], tmp_path / "out", faces="frames", device="cpu")
    assert not (tmp_path / "out").exists()


def test_other_encoders_than_the_runs_are_refused(small_run, small_dataset, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    facts = json.loads((run / "run.json").read_text())
    facts["store"]["fingerprints"]["image"]["weights"] = "0" * 64
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(FingerprintError, match="weights: 0000"):
        predict(run, media(small_dataset)[:1], tmp_path / "out", faces="frames", device="cpu")


def test_a_folder_that_is_no_run_and_a_target_that_cannot_be_written(small_run, small_dataset, tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        predict(tmp_path, media(small_dataset)[:1], tmp_path / "out", faces="frames", device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"file/out: .*file on its way is a file"):
        predict(small_run, media(small_dataset)[:1], tmp_path / "file" / "out", faces="frames", device="cpu")


def test_a_file_whose_decoder_hangs_fails_and_the_others_go_on(monkeypatch, tmp_path):
    from vaprompt.media import video
    from vaprompt.media.patience import SETTING

    files = [write_clip(tmp_path / name, times_ms=range(0, 6000, 100)) for name in ("a.mp4", "b.mp4", "c.mp4")]
    packets, forever = video.packets, threading.Event()

    def hanging(container, stream, path, pulse):
        for number, packet in enumerate(packets(container, stream, path, pulse)):
            if number == 10 and path == files[1]:
                forever.wait()
            yield packet

    monkeypatch.setattr(video, "packets", hanging)
    monkeypatch.setenv(SETTING, "1.5")
    cheap.use(monkeypatch)
    report = predict(tmp_path, files, tmp_path / "out", faces="frames", device="cpu")
    forever.set()
    assert [done.media for done in report.done] == [files[0], files[2]]
    assert list(report.failed) == [str(files[1])]
    assert "nothing was decoded for 1.5 s" in report.failed[str(files[1])]
