"""A folder of face crops is predicted like a video without sound, in which the face is gone where a crop is missing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import WAV_RATE, write_clip, write_wav
from tests.prediction.cheap import BOTH, Colours, Loudness, cheap_run, use
from tests.rights import open_folder, without_rights
from vaprompt.cli.main import run as command
from vaprompt.errors import OptionError, TargetError
from vaprompt.extraction.encode_media import encode_pictures
from vaprompt.extraction.grid import audio_ends
from vaprompt.extraction.pictures import crop_pictures
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.media.clock import steady_times
from vaprompt.prediction import predict as module
from vaprompt.prediction.asked import unreadable_files
from vaprompt.prediction.predict import CROPS_ARE_SILENT, predict
from vaprompt.windows import dense_ends, interpolate

RATE, FRAMES = 12.5, 120
GAP = range(41, 66)
RUN = Path("run")


def write_crops(folder: Path, without: range = range(0)) -> Path:
    """Write crops of two sizes that change all the time."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    for frame in range(1, FRAMES + 1):
        if frame not in without:
            side = 16 if frame % 7 else 20
            rgb_HWC = generator.integers(0, 255, 3) + generator.integers(0, 60, (side, side, 1))
            Image.fromarray(rgb_HWC.clip(0, 255).astype(np.uint8)).save(folder / f"{frame:05d}.png")
    (folder / "notes.txt").write_text("no crop")
    return folder


def evaluated(folder: Path, modalities: tuple[str, ...], every: int | None) -> np.ndarray:
    """Return what a run says of all crops' embeddings, at all ends of windows as an evaluation asks them."""
    time_F = steady_times(FRAMES, RATE)
    run, hearing = cheap_run(Loudness(), modalities=modalities), Loudness()
    recipe = ExtractRecipe.model_validate(run.facts["extraction"])
    batches = list(encode_pictures(crop_pictures(folder, folder, recipe.image_rate, time_F), recipe, Colours()))
    image_ND, time_N = (np.concatenate([getattr(one, key) for one in batches]) for key in ("embedding_ND", "time_N"))
    end_A = audio_ends(float(time_F[-1]), window=recipe.audio.window, hop=recipe.audio.hop)
    silent_ASD = np.zeros((len(end_A), hearing.steps, hearing.dim), np.float16) if "audio" in modalities else None
    window = run.recipe.window
    end_W = dense_ends(time_F, seconds=window.seconds, stride=window.stride, every=every)
    return interpolate(end_W, run.predict_at(end_W, image_ND, time_N, silent_ASD, end_A, time_F), time_F)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return write_crops(tmp_path / "talk.v2")


@pytest.mark.parametrize("modalities", [("image",), BOTH])
def test_predictions_are_those_of_an_evaluation_and_sound_is_silence(monkeypatch, crops, tmp_path, modalities):
    seeing = use(monkeypatch, modalities=modalities)
    (video,) = predict(RUN, [crops], tmp_path / "out", rate=RATE).done
    np.testing.assert_array_equal(video.time_F, np.arange(FRAMES) / RATE)
    np.testing.assert_allclose(video.value_F2, evaluated(crops, modalities, None), atol=1e-5)
    assert video.face_F is not None
    assert video.face_F.all()
    assert video.notes == ([CROPS_ARE_SILENT] if "audio" in modalities else [])
    assert seeing.encoded < FRAMES / 2, "crops that no window uses need no encoding"
    assert video.csv == tmp_path / "out" / "talk.v2.csv"
    with video.csv.open() as text:
        header, *rows = csv.reader(text)
    assert header == ["frame", "time", "valence", "arousal", "face"]
    np.testing.assert_allclose(np.array(rows, float)[:, 2:4], video.value_F2, atol=1e-6)


def test_frames_without_a_crop_are_marked_and_filled_as_those_without_a_face_in_a_video(monkeypatch, tmp_path):
    folder = write_crops(tmp_path / "talk", without=GAP)
    use(monkeypatch, modalities=("image",))
    (video,) = predict(RUN, [folder], tmp_path / "out", rate=RATE, every=1).done
    there_F = ~np.isin(np.arange(1, FRAMES + 1), GAP)
    np.testing.assert_array_equal(video.face_F, there_F)
    value_F2 = evaluated(folder, ("image",), 1)
    np.testing.assert_allclose(video.value_F2[there_F], value_F2[there_F], atol=1e-5)
    filled_F2 = interpolate(video.time_F[there_F], value_F2[there_F], video.time_F)
    np.testing.assert_allclose(video.value_F2[~there_F], filled_F2[~there_F], atol=1e-5)
    assert video.notes == [f"no face in {len(GAP)} of {FRAMES} frames, filled by interpolation: 3.20 to 5.12 s"]
    # What windows see does not change where they end at a stride: the edges of the gap are asked for besides.
    (strided,) = predict(RUN, [folder], tmp_path / "strided", rate=RATE).done
    for edge in (GAP.start - 2, GAP.stop - 1):
        np.testing.assert_allclose(strided.value_F2[edge], value_F2[edge], atol=1e-5)


def test_one_crop_and_a_late_first_one_are_predicted(monkeypatch, tmp_path):
    use(monkeypatch, modalities=("image",))
    folder = write_crops(tmp_path / "late", without=range(1, 30))
    one = write_crops(tmp_path / "one", without=range(2, FRAMES + 1))
    late, single = predict(RUN, [folder, one], tmp_path / "out", rate=RATE).done
    assert late.face_F is not None
    assert np.flatnonzero(late.face_F)[0] == 29
    np.testing.assert_array_equal(late.value_F2[:29], np.repeat(late.value_F2[29:30], 29, axis=0))
    assert len(single.time_F) == 1


def test_what_cannot_be_predicted_is_told_in_a_line_while_others_go_on(monkeypatch, crops, tmp_path):
    use(monkeypatch, modalities=("image",))
    empty, other, zero, broken, long = (tmp_path / name for name in ("empty", "other", "zero", "broken", "long"))
    for folder, names in ((empty, ()), (other, ("a.jpg", "notes.txt")), (zero, ("0.png",)), (long, ("09999999.jpg",))):
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"x")
    write_crops(broken)
    (broken / "00001.png").write_bytes((broken / "00001.png").read_bytes()[:40])
    clip = write_clip(tmp_path / "clip.mp4", times_ms=range(0, 1000, 40))
    files = [crops, empty, other, zero, broken, long, clip, tmp_path / "missing"]
    report = predict(RUN, files, tmp_path / "out", rate=RATE)
    assert [video.media for video in report.done] == [crops]
    told = {Path(file).name: reason for file, reason in report.failed.items()}
    assert list(told) == [file.name for file in files[1:]]
    for name in ("empty", "other"):
        assert "is a folder without numbered pictures, such as 00001.jpg; name a folder" in told[name]
    assert "numbers the frames from 0" in told["zero"]
    assert f"{broken / '00001.png'}: is not a readable jpg or png" in told["broken"]
    assert "is of 9999999 frames, 800000 s at 12.5 a second; 86400 s are allowed" in told["long"]
    assert "is a video, which tells the times of its frames: a rate of 12.5 says nothing" in told["clip.mp4"]
    assert "there is no such file" in told["missing"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["talk.v2.csv"]
    # Without a rate it is the other way round.
    report = predict(RUN, [crops, clip], tmp_path / "two", faces="frames")
    assert [video.media for video in report.done] == [clip]
    assert "give the frames a second of their video, such as --rate 30" in report.failed[str(crops)]


def test_options_that_crops_have_no_use_for_are_refused(monkeypatch, crops, tmp_path):
    use(monkeypatch, modalities=("image",))
    for rate in (0.0, -1.0, 241.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="is not above 0 and at most 240"):
            predict(RUN, [crops], tmp_path / "out", rate=rate)
    with pytest.raises(OptionError, match=r"--faces detect: says nothing of .*talk\.v2"):
        predict(RUN, [crops], tmp_path / "out", rate=RATE, faces="detect")
    with pytest.raises(TargetError, match="is the folder of face crops itself"):
        predict(RUN, [crops], crops, rate=RATE)
    use(monkeypatch, modalities=("audio",))
    (reason,) = predict(RUN, [crops], tmp_path / "out", rate=RATE).failed.values()
    assert "is a folder, and the run only listens" in reason
    assert not (tmp_path / "out").exists()


def test_the_rate_is_that_of_sound_alone_too(monkeypatch, tmp_path):
    use(monkeypatch, modalities=("audio",))
    sound = write_wav(tmp_path / "talk.wav", np.zeros(WAV_RATE * 2))
    (video,) = predict(RUN, [sound], tmp_path / "out", rate=RATE).done
    np.testing.assert_array_equal(video.time_F, np.arange(25) / RATE)


def test_the_detector_is_not_asked_for_where_there_are_crops_alone(monkeypatch, crops, tmp_path):
    def never() -> None:
        raise AssertionError("loaded")

    use(monkeypatch, modalities=("image",))
    monkeypatch.setattr(module, "missing", lambda: None)
    monkeypatch.setattr(module, "CenterFace", never)
    assert len(predict(RUN, [crops], tmp_path / "out", rate=RATE, person="all").done) == 1


def test_a_folder_without_rights_is_told_of(monkeypatch):
    use(monkeypatch, modalities=("image",))
    with open_folder() as place:
        (place / "closed" / "crops").mkdir(parents=True)
        (place / "unlisted").mkdir()
        (place / "closed").chmod(0)
        (place / "unlisted").chmod(0)
        files = [place / "unlisted", place / "closed" / "crops"]
        with without_rights():
            told = unreadable_files(files, RATE)
    assert "cannot be listed (Permission denied); check its rights" in told[str(files[0])]
    assert "cannot be looked at (Permission denied)" in told[str(files[1])]


def test_pages_and_overlays_need_a_video(monkeypatch, crops, tmp_path, capsys):
    use(monkeypatch, modalities=("image",))
    asked = ["predict", str(RUN), str(crops), "--rate", "12.5", "--out", str(tmp_path / "out")]
    for option, what in ((["--page"], "a page"), (["--embed"], "a page"), (["--overlay", "new.mp4"], "an overlay")):
        assert command([*asked, *option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{crops}: is a folder, and {what}" in line
    assert not (tmp_path / "out").exists()
    assert command([*asked, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["done"]
    assert (told["media"], told["frames"], told["with_face"]) == (str(crops), FRAMES, FRAMES)
    assert (tmp_path / "out" / "talk.v2.png").stat().st_size
