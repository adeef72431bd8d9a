"""Data sets of sound alone and of face crops alone go through every command that one with both goes through."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.finetuning.conftest import heads_recipe, recipe
from tests.media.clips import WAV_RATE, write_wav
from vaprompt import FeatureStore
from vaprompt.cli.main import run as command
from vaprompt.datasets.check import check
from vaprompt.datasets.description import open_dataset
from vaprompt.errors import DatasetError, MediaError, RecipeError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.finetuning.finetune import finetune
from vaprompt.media.audio import cut_pieces, sound_pieces
from vaprompt.media.clock import has_picture, row_times
from vaprompt.media.video import frame_times
from vaprompt.prediction.predict import predict
from vaprompt.recipes import read_recipe, shipped
from vaprompt.store.verification import verify
from vaprompt.training.run import train

FROZEN = {"image": {"tune": "none"}, "audio": {"tune": "none"}, "epochs": 1}


@pytest.fixture(scope="session")
def alone(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `sound.toml` and `crops.toml`: the small data set's sound, and its crops, and no video."""
    folder = tmp_path_factory.mktemp("alone")
    both = open_dataset(small_dataset)
    rates = ["[rates]"]
    for video in both.videos:
        assert video.media is not None
        time_F = frame_times(video.media)
        rates.append(f'"{video.name}" = {(len(time_F) - 1) / time_F[-1]:.9f}')
    media = {video.media for video in both.videos}
    for kind in ("sound", "crops"):
        left = [path.name for path in media if path is not None] + (["cropped_aligned*"] if kind == "sound" else [])
        shutil.copytree(both.root, folder / kind, ignore=shutil.ignore_patterns(*left))
    for path in media:
        assert path is not None
        length = round((float(frame_times(path)[-1]) + 0.04) * WAV_RATE)
        write_wav(folder / "sound" / f"{path.stem}.wav", cut_pieces(list(sound_pieces(path, rate=WAV_RATE)), 0, length))
    for kind, modality in (("sound", "audio"), ("crops", "image")):
        lines = [f'name = "{kind}"', f'root = "{kind}"', f'modalities = ["{modality}"]', *rates]
        (folder / f"{kind}.toml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def stores(alone: Path) -> Path:
    """Return the folder again, with `sound.zarr` and `crops.zarr` in it."""
    wanted = read_recipe(ExtractRecipe, shipped("extract", "demo"))
    for kind in ("sound", "crops"):
        report = extract(open_dataset(alone / f"{kind}.toml"), wanted, alone / f"{kind}.zarr")
        assert report.failed == {}
    return alone


@pytest.mark.parametrize("kind", ["sound", "crops"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_check_finds_nothing_wrong(alone: Path, kind: str, deep: bool):
    dataset = open_dataset(alone / f"{kind}.toml")
    found = check(dataset, deep=deep)
    assert found.ready == len(dataset.videos)
    assert {problem.kind for problem in found.problems} <= {"no test list", "count", "template"}


@pytest.mark.parametrize(("kind", "stream"), [("sound", "audio"), ("crops", "image")])
def test_features_are_those_of_the_videos(stores: Path, small_store: Path, kind: str, stream: str):
    both, store = FeatureStore.open(small_store), FeatureStore.open(stores / f"{kind}.zarr")
    assert store.streams == (stream, "labels")
    assert store.videos() == both.videos()
    assert verify(stores / f"{kind}.zarr", deep=True).faults == []
    for video in store.videos():
        # Annotations are longer than some videos, which sound and crops alone cannot tell.
        rows = len(both.labels(video).value_F2)
        np.testing.assert_array_equal(store.labels(video).value_F2[:rows], both.labels(video).value_F2)
        if stream == "image":
            # Ten a second are encoded: by steady time others than by a rate that varies.
            one, two = store.image(video), both.image(video)
            _, here, there = np.intersect1d(one.frame_N, two.frame_N, return_indices=True)
            assert len(here) > 0.5 * len(two.frame_N)
            np.testing.assert_array_equal(one.embedding_ND[here], two.embedding_ND[there])
        else:
            clips = len(both.audio(video).end_W)
            np.testing.assert_array_equal(store.audio(video).end_W[:clips], both.audio(video).end_W)
            heard, known = (part.audio(video).embedding_WSD[:clips].astype(np.float32) for part in (store, both))
            assert np.abs(heard - known).mean() < 0.02 * np.abs(known).mean()
    again = extract(open_dataset(stores / f"{kind}.toml"), read_recipe(ExtractRecipe, shipped("extract", "demo")),
                    stores / f"{kind}.zarr")  # fmt: skip
    assert again.done == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "modality"), [("sound", "audio"), ("crops", "image")])
def test_it_is_trained_on_judged_and_fine_tuned(stores: Path, tmp_path: Path, kind: str, modality: str):
    wanted = heads_recipe(epochs=1, model={**heads_recipe().model.model_dump(), "modalities": [modality]})
    train(stores / f"{kind}.zarr", wanted, tmp_path / "run", device="cpu")
    result = evaluate(tmp_path / "run", device="cpu").result
    assert result["official"]["frames"] > 0
    # Encoders that do not learn: raw media say what the cache said.
    finetune(tmp_path / "run", stores / f"{kind}.toml", recipe(**FROZEN), tmp_path / "tuned", device="cpu")
    facts = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert facts["start"]["largest_difference"] < 1e-3


def test_a_run_that_only_listens_predicts_sound_alone_and_videos(
    stores: Path, small_dataset: Path, tmp_path: Path, capsys
):
    wanted = heads_recipe(epochs=1, model={**heads_recipe().model.model_dump(), "modalities": ["audio"]})
    train(stores / "sound.zarr", wanted, tmp_path / "run", device="cpu")
    sound = sorted((stores / "sound").glob("*.wav"))[0]
    (video,) = [
        path for path in small_dataset.rglob("*") if path.stem == sound.stem and path.suffix in (".mp4", ".avi")
    ]
    given = [str(path) for path in (sound, video)]
    assert command(["predict", str(tmp_path / "run"), given[0], "--out", str(tmp_path / "one")]) == 0
    assert "sound alone: 30 rows a second" in capsys.readouterr().out
    assert command(["predict", str(tmp_path / "run"), given[1], "--out", str(tmp_path / "two")]) == 0
    # A page plays it; a video cannot be made of it.
    assert command(["predict", str(tmp_path / "run"), given[0], "--out", str(tmp_path / "three"), "--page"]) == 0
    assert '<audio id="video"' in (tmp_path / "three" / f"{sound.stem}.html").read_text()
    overlay = ["--overlay", str(tmp_path / "new.mp4")]
    assert command(["predict", str(tmp_path / "run"), given[0], "--out", str(tmp_path / "four"), *overlay]) == 2
    assert "holds sound alone, and an overlay is a video" in capsys.readouterr().err
    assert not (tmp_path / "four").exists()
    heard, seen = (
        np.loadtxt(tmp_path / place / f"{sound.stem}.csv", delimiter=",", skiprows=1) for place in ("one", "two")
    )
    np.testing.assert_allclose(heard[:, 1], np.arange(len(heard)) / 30, atol=1e-5)
    assert heard[-1, 1] == pytest.approx(seen[-1, 1], abs=0.1)
    for axis in (2, 3):
        np.testing.assert_allclose(np.interp(seen[:, 1], heard[:, 1], heard[:, axis]), seen[:, axis], atol=0.02)


@pytest.fixture(scope="session")
def looking_run(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was trained on crops alone; nothing may be written into it."""
    folder = tmp_path_factory.mktemp("looking") / "run"
    wanted = heads_recipe(epochs=1, model={**heads_recipe().model.model_dump(), "modalities": ["image"]})
    train(stores / "crops.zarr", wanted, folder, device="cpu")
    return folder


def test_a_run_that_looks_refuses_sound_alone_in_a_line(looking_run: Path, stores: Path, tmp_path: Path, capsys):
    sound = sorted((stores / "sound").glob("*.wav"))[0]
    assert command(["predict", str(looking_run), str(sound), "--out", str(tmp_path / "out")]) == 2
    assert "has no video stream" in capsys.readouterr().err


@pytest.mark.parametrize("every", [None, pytest.param(1, marks=pytest.mark.slow)])
def test_crops_in_a_folder_are_predicted_as_an_evaluation_says(
    looking_run: Path, stores: Path, tmp_path: Path, every: int | None
):
    dataset = open_dataset(stores / "crops.toml")
    known = {video.name: video for video in evaluate(looking_run, every=every, out=tmp_path, device="cpu").videos}
    compared = 0
    for video in dataset.videos:
        if video.name in known and video.crops is not None:
            rate = dataset.rates.of(video.name)
            out = tmp_path / "out"
            (said,) = predict(looking_run, [video.crops], out, rate=rate, every=every, device="cpu").done
            there_F = said.face_F
            assert there_F is not None
            whole = bool(there_F.all())
            if not whole and every is None:
                continue  # the edges of gaps are windows' ends besides, as in a video in which a face is gone
            expected_F2 = known[video.name].prediction_F2[: len(there_F)]
            np.testing.assert_allclose(said.value_F2[there_F], expected_F2[there_F], atol=1e-3)
            compared += 1
    assert compared > 0


def test_what_does_not_fit_is_told_in_a_line(alone: Path, tmp_path: Path):
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.zarr"))
    text = (tmp_path / "sound.toml").read_text()
    wanted = read_recipe(ExtractRecipe, shipped("extract", "demo"))
    # No rate is known.
    (tmp_path / "sound.toml").write_text(text.partition("[rates]")[0])
    failed = extract(open_dataset(tmp_path / "sound.toml"), wanted, tmp_path / "a.zarr", limit=1).failed
    assert all("set `rate` in the data set's description" in reason for reason in failed.values())
    assert len(failed) == 1
    crops = (tmp_path / "crops.toml").read_text().partition("[rates]")[0]
    (tmp_path / "crops.toml").write_text(crops)
    failed = extract(open_dataset(tmp_path / "crops.toml"), wanted, tmp_path / "b.zarr", limit=1).failed
    assert all("or set modalities = ['image'] and its rate" in reason for reason in failed.values())
    # Another rate than the annotation's.
    (tmp_path / "sound.toml").write_text(text.partition("[rates]")[0] + "rate = 97\n")
    failed = extract(open_dataset(tmp_path / "sound.toml"), wanted, tmp_path / "c.zarr", limit=1).failed
    assert all("rows but the video decodes to" in reason for reason in failed.values())
    assert len(failed) == 1
    # A rate of nobody, and faces of nothing.
    (tmp_path / "sound.toml").write_text(text + '"nobody" = 3\n')
    with pytest.raises(DatasetError, match="gives a rate of 'nobody', which is no video of it; nearest is"):
        open_dataset(tmp_path / "sound.toml")
    (tmp_path / "sound.toml").write_text('faces = "crops"\n' + text)
    with pytest.raises(RecipeError, match="says nothing where modalities leave pictures out"):
        open_dataset(tmp_path / "sound.toml")
    # A rate beside videos, which have their own.
    for other in ("modalities = ['image', 'audio']", "modalities = ['image']\nfaces = 'frames'"):
        (tmp_path / "crops.toml").write_text(f"{other}\nname = 'crops'\nroot = 'crops'\nrate = 30\n")
        with pytest.raises(RecipeError, match="a rate says nothing where videos tell"):
            open_dataset(tmp_path / "crops.toml")


def test_the_rows_of_sound_are_known_from_its_length_and_half_a_file_is_refused(tmp_path: Path):
    sound = write_wav(tmp_path / "a.wav", np.zeros(WAV_RATE * 2))
    assert not has_picture(sound)
    np.testing.assert_allclose(row_times(sound, 25), np.arange(50) / 25)
    assert len(row_times(sound, 25, annotated=52)) == 52
    assert len(row_times(sound, 25, annotated=90)) == 50
    with pytest.raises(MediaError, match="has no moving pictures"):
        row_times(sound)
    whole = sound.read_bytes()
    sound.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="is cut off"):
        row_times(sound, 25)
