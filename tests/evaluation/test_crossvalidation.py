"""Folds never mix people of one video, every score is out of fold, and none is called a validation score."""

import json

import numpy as np
import pytest

from tests.evaluation.definition import lin
from tests.planted import plant_store
from tests.training.small import recipe
from vaprompt import FeatureStore, load_run
from vaprompt.cli.main import run as command
from vaprompt.errors import RunError, StoreError, TargetError
from vaprompt.evaluation.bootstrap import source_video
from vaprompt.evaluation.crossvalidation import assign_folds, cross_validate
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.report.leaderboard import leaderboard
from vaprompt.store.features import StoredLabels
from vaprompt.store.storage import Folder
from vaprompt.training.recipe import TrainRecipe


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("folds") / "store.zarr", train=4, validation=2, test=1, seconds=20.0)


@pytest.fixture(scope="module")
def crossed(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("crossed") / "folds"
    return cross_validate(store, recipe(epochs=2), out, folds=3, device="cpu"), out


def test_each_video_is_held_out_once_by_a_run_that_never_saw_it(store, crossed):
    result, out = crossed
    labelled = {f"video{number}" for number in range(6)}
    held = [name for fold in result["folds"] for name in fold["held_out"]]
    assert sorted(held) == sorted(labelled)
    for fold in result["folds"]:
        parts = [set(fold[part]) for part in ("held_out", "stopped_by", "trained_on")]
        assert set.union(*parts) == labelled
        assert sum(map(len, parts)) == len(labelled)
        facts = json.loads((out / f"fold{fold['fold']}" / "run.json").read_text())
        assert set(facts["videos"]["train"]) == parts[2]
        assert set(facts["videos"]["stopping"]) == parts[1]
        for name in ("run.json", "metrics.jsonl"):
            assert "validation" not in (out / f"fold{fold['fold']}" / name).read_text()


def test_the_score_pools_what_each_fold_predicts_of_its_own(store, crossed):
    result, out = crossed
    source = FeatureStore.open(store)
    predictions, truths = [], []
    for fold in result["folds"]:
        loaded = load_run(out / f"fold{fold['fold']}")
        for name in fold["held_out"]:
            image, audio, labels = source.image(name), source.audio(name), source.labels(name)
            value = loaded.predict(image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, labels.time_F)
            predictions.append(value[labels.valid_F])
            truths.append(labels.value_F2[labels.valid_F])
    x, y = np.concatenate(predictions), np.concatenate(truths)
    found = result["out_of_fold"]["official"]
    assert found["frames"] == len(y)
    assert found["valence"] == pytest.approx(lin(x[:, 0], y[:, 0]), abs=1e-6)
    assert found["arousal"] == pytest.approx(lin(x[:, 1], y[:, 1]), abs=1e-6)
    assert json.loads((out / "crossvalidation.json").read_text()) == result
    # "train and validation splits" says which videos; no score goes by the name.
    assert "validation" not in set(result) | set(result["out_of_fold"]) | set(result["folds"][0])


def test_a_leaderboard_of_folds_says_what_they_are_and_where_their_scores_lie(crossed):
    (note,) = leaderboard([crossed[1]]).notes
    assert note.startswith("3 runs are folds of a cross-validation, such as fold")
    assert "crossvalidation.json" in note
    assert "vaprompt evaluate" not in note, "which refuses them"


def test_a_folds_run_has_no_validation_score(store, crossed):
    _, out = crossed
    refused = 0
    for fold in (1, 2, 3):
        trained_on = json.loads((out / f"fold{fold}" / "run.json").read_text())["videos"]["train"]
        if {"video4", "video5"} & set(trained_on):
            with pytest.raises(RunError, match="of the 2 videos of the validation split"):
                evaluate(out / f"fold{fold}", store=store, device="cpu")
            refused += 1
    assert refused


def test_asked_again_nothing_is_trained_and_the_result_is_the_same(store, crossed, monkeypatch):
    result, out = crossed
    monkeypatch.setattr("vaprompt.training.run.train_epoch", None)
    assert cross_validate(store, recipe(epochs=2), out, folds=3, device="cpu") == result
    with pytest.raises(RunError, match="differs in"):
        cross_validate(store, recipe(epochs=2), out, folds=4, device="cpu")


def test_people_of_one_video_share_a_fold_and_folds_are_about_even(tmp_path):
    class Labelled(FeatureStore):
        names = ("a", "a_left", "a_right", "b_left", "b_right", "c", "d", "e", "f")

        def videos(self, split=None):
            return [name for name in self.names if (name < "d") == (split == "train")]

        def labels(self, name):
            time = np.arange(100) / 30
            return StoredLabels(np.zeros((100, 2), np.float32), np.full(100, name != "f"), time)

    parts = assign_folds(Labelled(Folder(tmp_path), {}), 3)
    fold = {name: index for index, names in enumerate(parts) for name in names}
    assert sorted(fold) == ["a", "a_left", "a_right", "b_left", "b_right", "c", "d", "e"]
    for name in fold:
        assert fold[name] == fold.get(source_video(name), fold[name])
    assert fold["b_left"] == fold["b_right"]
    assert sorted(len(names) for names in parts) == [2, 3, 3]


def test_too_many_folds_and_too_few_are_refused(store, tmp_path):
    source = FeatureStore.open(store)
    for folds in (2, 7):
        with pytest.raises(StoreError, match=rf"6 source videos .* do not make {folds} folds; .*3 to 6 folds"):
            assign_folds(source, folds)


def test_a_fold_that_cannot_be_stopped_is_refused_before_any_is_trained(tmp_path):
    store = plant_store(tmp_path / "store.zarr", train=5, validation=2, seconds=20.0)
    parts = assign_folds(FeatureStore.open(store), 4)
    # A window a video: the first fold is stopped by two, one of the others by one.
    assert sorted(map(len, parts)) == [1, 2, 2, 2]
    assert len(parts[1]) == 2
    window = {"seconds": 4.0, "stride": 30.0, "frames": 8}
    with pytest.raises(StoreError, match=r"stopping split's 1 videos hold 1 windows of 4 s .*, and 2 are needed"):
        cross_validate(store, recipe(epochs=1, window=window), tmp_path / "out", folds=4, device="cpu")
    assert not (tmp_path / "out").exists()


def test_fewer_videos_than_any_folds_need_are_told_so(tmp_path):
    two = plant_store(tmp_path / "two.zarr", train=1, validation=1, test=1, seconds=2.0)
    with pytest.raises(StoreError, match=r"2 source videos with labels, .*; at least 3 are needed"):
        assign_folds(FeatureStore.open(two), 3)


def test_a_target_that_is_a_file_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(TargetError, match="f: is a file, where a folder is wanted"):
        cross_validate(tmp_path / "no.zarr", TrainRecipe(), tmp_path / "f")
    with pytest.raises(TargetError, match="f: is a file, where a folder is wanted"):
        evaluate(tmp_path / "no-run", out=tmp_path / "f")
    assert (tmp_path / "f").read_text() == "mine"


def test_the_command_tells_the_folds(store, crossed, tmp_path, capsys):
    out = crossed[1]
    changes = ["window.seconds=4.0", "window.stride=1.0", "window.frames=8", "model.width=32", "epochs=1"]
    options = [part for change in changes for part in ("--set", change)]
    assert command(["crossvalidate", str(store), "--out", str(tmp_path / "o"), "--folds", "3", *options]) == 0
    shown = capsys.readouterr().out
    assert "fold 3" in shown
    assert "pooled" in shown
    assert "not comparable with scores on the official split" in " ".join(shown.split())
    assert command(["crossvalidate", str(store), "--out", str(out), "--folds", "2"]) == 2
