"""Scores against an independent computation from the labels and the run's own predictions."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.definition import lin
from tests.planted import plant_store, refingerprint, source_of
from tests.training.small import recipe
from vaprompt import FeatureStore, load_run
from vaprompt.errors import FingerprintError, RunError, StoreError, TargetError
from vaprompt.evaluation.baseline import RidgeBaseline
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.protocols import judge, official, paper_subset
from vaprompt.training.inputs import read_inputs
from vaprompt.training.run import train
from vaprompt.training.runs import batches_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    store = plant_store(folder / "store.zarr", test=1)
    train(store, recipe(), folder / "run", device="cpu")
    train(store, recipe(epochs=2, window={"seconds": 4.0, "stride": 2.0, "frames": 8}), folder / "other", device="cpu")
    return store, folder / "run"


def test_official_pools_every_valid_frame_with_interpolation_between_windows(trained):
    store, run = trained
    result = evaluate(run, device="cpu").result
    source, loaded = FeatureStore.open(store), load_run(run)
    predictions, truths = [], []
    for name in source.videos("validation"):
        image, audio, labels = source.image(name), source.audio(name), source.labels(name)
        ends = [0.0]
        while ends[-1] + 1 <= labels.time_F[-1] + 1e-9:
            ends.append(ends[-1] + 1)
        if ends[-1] < labels.time_F[-1] - 1e-9:
            ends.append(labels.time_F[-1])
        at = loaded.predict_at(
            np.array(ends), image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, labels.time_F
        )
        for row, time in enumerate(labels.time_F):
            if labels.valid_F[row]:
                after = min(np.searchsorted(ends, time), len(ends) - 1)
                before = max(after - 1, 0)
                share = 0 if after == before else (time - ends[before]) / (ends[after] - ends[before])
                predictions.append((1 - share) * at[before] + share * at[after])
                truths.append(labels.value_F2[row])
    x, y = np.array(predictions, np.float64), np.array(truths, np.float64)
    assert result["official"]["frames"] == len(y)
    assert result["official"]["valence"] == pytest.approx(lin(x[:, 0], y[:, 0]), abs=1e-5)
    assert result["official"]["arousal"] == pytest.approx(lin(x[:, 1], y[:, 1]), abs=1e-5)
    assert result["official"]["mean"] == pytest.approx((lin(x[:, 0], y[:, 0]) + lin(x[:, 1], y[:, 1])) / 2, abs=1e-5)


def test_the_subset_is_every_three_seconds_from_ten_on():
    time_F = np.arange(600) / 20  # 0 to 29.95 s
    truth_F2 = np.stack((np.sin(time_F), np.cos(time_F)), axis=1).astype(np.float32)
    valid_F = np.ones(600, bool)
    valid_F[260] = False  # the frame at 13 s
    asked = []

    def predict_at(end_W):
        asked.append(end_W)
        return np.stack((np.sin(end_W), np.cos(end_W)), axis=1)

    judged = judge("v", predict_at, time_F=time_F, truth_F2=truth_F2, valid_F=valid_F, seconds=4.0, stride=1.0)
    found = paper_subset([judged])
    times = [10.0, 16.0, 19.0, 22.0, 25.0, 28.0]
    assert found["frames"] == len(times)
    np.testing.assert_allclose(judged.subset_truth_P2[:, 0], np.sin(times), atol=1e-6)
    np.testing.assert_allclose(judged.subset_prediction_P2[:, 0], np.sin(times), atol=1e-6)
    assert official([judged])["frames"] == 599


def test_scores_are_pooled_and_not_the_mean_over_videos():
    time_F = np.arange(100) / 10
    low, high = (
        judge(
            name,
            lambda end_W, level=level: np.full((len(end_W), 2), level),
            time_F=time_F,
            truth_F2=np.full((100, 2), level, np.float32),
            valid_F=np.ones(100, bool),
            seconds=1.0,
            stride=1.0,
        )
        for name, level in (("low", -0.5), ("high", 0.5))
    )
    assert official([low])["valence"] is None
    assert official([low, high])["valence"] == pytest.approx(1.0)


def test_the_result_says_what_made_it_and_is_valid_json(trained):
    store, run = trained
    result = evaluate(run, device="cpu").result
    assert json.loads((run / "evaluation.json").read_text()) == result
    assert set(result["videos"]) == {"video6", "video7"}
    assert result["made_by"]["store"] == str(store)
    for part in (result, result["ridge"]):
        for protocol in ("official", "paper_subset"):
            assert set(part[protocol]) == {"valence", "arousal", "mean", "frames"}
    assert result["official"]["frames"] == result["ridge"]["official"]["frames"]


def test_validation_is_the_official_split_and_nothing_of_it_is_trained_on(trained):
    """Fault 9: scores from a rotated fold are not validation scores."""
    store, run = trained
    source = FeatureStore.open(store)
    result, facts = evaluate(run, device="cpu").result, load_run(run).facts
    assert result["split"] == "validation"
    assert set(result["videos"]) == {name for name in source.videos() if source.split(name) == "validation"}
    assert set(facts["videos"]["train"]) == {name for name in source.videos() if source.split(name) == "train"}
    windows = sum(int((source.labels(name).time_F[-1] - 4) // 1) + 1 for name in facts["videos"]["train"])
    assert facts["windows"]["train"] <= windows


def test_ridge_is_ridge_regression_on_window_means(trained):
    store, _ = trained
    source, wanted = FeatureStore.open(store), recipe()
    baseline = RidgeBaseline.fit(source, wanted)
    alpha = baseline.model.best_params_["ridge__alpha"]

    def rows(name, ends, labelled):
        image, audio, labels = source.image(name), source.audio(name), source.labels(name)
        inputs, values = [], []
        for end in ends:
            exist = np.flatnonzero((image.time_N > end - 4 + 1e-6) & (image.time_N <= end + 1e-6))
            chosen = exist[np.rint(np.linspace(0, len(exist) - 1, 8)).astype(int)]
            sound = np.flatnonzero(audio.end_W <= end + 1e-6)[-1]
            target = np.flatnonzero(labels.time_F <= end + 1e-6)[-1]
            if labelled and not labels.valid_F[target]:
                continue
            means = (image.embedding_ND[chosen].astype(float).mean(0), audio.embedding_WSD[sound].astype(float).mean(0))
            inputs.append(np.concatenate(means))
            values.append(labels.value_F2[target])
        return np.array(inputs), np.array(values, float)

    parts = [rows(name, np.arange(4, 30), True) for name in source.videos("train")]
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    mean, spread = x.mean(0), x.std(0)
    z = (x - mean) / spread
    weights = np.linalg.solve(z.T @ z + alpha * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    ends = np.arange(4.0, 30.0)
    inputs, _ = rows("video6", ends, False)
    expected = ((inputs - mean) / spread @ weights + y.mean(0)).clip(-1, 1)
    found = baseline.predict_at(ends, read_inputs(source, "video6", ("image", "audio")))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_splits_without_labels_and_other_stores_are_refused(trained, tmp_path):
    store, run = trained
    with pytest.raises(StoreError, match="no labelled video of the test split"):
        evaluate(run, split="test", device="cpu")
    other = plant_store(tmp_path / "other.zarr", train=2, validation=1)
    source = FeatureStore.open(other)
    refingerprint(other, "audio", encoder="another")
    assert source.path == other
    with pytest.raises(FingerprintError, match=r"encoder: another here, planted asked for"):
        evaluate(run, store=other, device="cpu")
    with pytest.raises(StoreError):
        evaluate(run, store=tmp_path / "none.zarr", device="cpu")
    assert store.exists()


def traces(evaluation):
    return {video.name: video.prediction_F2 for video in evaluation.videos}


def test_every_frame_and_every_nth_end_a_window(trained):
    store, run = trained
    source, loaded = FeatureStore.open(store), load_run(run)
    image, audio, labels = source.image("video6"), source.audio("video6"), source.labels("video6")
    arrays = (image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, labels.time_F)
    dense = loaded.predict_at(labels.time_F, *arrays)
    evaluation = evaluate(run, every=1, device="cpu")
    np.testing.assert_allclose(traces(evaluation)["video6"], dense, atol=1e-5)
    assert evaluation.result["interpolation"] == "a window ends at every frame; nothing is interpolated"
    assert evaluation.result["every"] == 1
    sparse = evaluate(run, every=7, device="cpu")
    kept = [*range(0, len(dense), 7), len(dense) - 1]
    expected = [np.interp(labels.time_F, labels.time_F[kept], dense[kept, axis]) for axis in (0, 1)]
    np.testing.assert_allclose(traces(sparse)["video6"], np.stack(expected, axis=1), atol=1e-5)
    assert "every 7 frames" in sparse.result["interpolation"]
    with pytest.raises(RunError, match="every = 0"):
        evaluate(run, every=0, device="cpu")


def test_several_runs_are_averaged_frame_by_frame_and_nothing_is_written_unasked(trained, tmp_path):
    _, run = trained
    other = run.with_name("other")
    before = (run / "evaluation.json").read_bytes() if (run / "evaluation.json").exists() else None
    together = evaluate([run, other], device="cpu")
    assert together.folder is None
    one, two = evaluate(run, out=tmp_path / "one", device="cpu"), evaluate(other, device="cpu")
    assert ((run / "evaluation.json").read_bytes() if before else None) == before
    assert (tmp_path / "one" / "evaluation.json").exists()
    for name, value in traces(together).items():
        np.testing.assert_allclose(value, (traces(one)[name] + traces(two)[name]) / 2, atol=1e-6)
    assert together.result["made_by"]["run"] is None
    assert together.result["made_by"]["runs"] == [str(run), str(other)]
    assert any("mean of 2 runs" in note for note in together.result["notes"])
    assert any("strides differ" in note for note in together.result["notes"])
    assert together.result["paper_subset"]["frames"] == one.result["paper_subset"]["frames"]
    with pytest.raises(RunError, match="given twice"):
        evaluate([run, run], device="cpu")


def test_smoothing_is_chosen_on_train_alone_and_the_unsmoothed_score_stays(trained):
    _, run = trained
    plain = evaluate(run, device="cpu").result
    tuned = evaluate(run, every=1, tune_smoothing=True, device="cpu").result
    untuned = evaluate(run, every=1, device="cpu").result
    assert plain["smoothing"] is None
    assert tuned["official"] == untuned["official"]
    smoothing = tuned["smoothing"]
    assert smoothing["tuned_on"] == "train"
    assert set(smoothing) >= {"kind", "seconds", "official", "paper_subset", "interval", "tried"}
    best = max(row["mean"] for row in smoothing["tried"])
    on_train = evaluate(run, split="train", every=1, tune_smoothing=True, device="cpu").result
    assert on_train["smoothing"]["official"]["mean"] == pytest.approx(best)
    assert on_train["smoothing"]["kind"] == smoothing["kind"]
    assert tuned["splits"]["train"]["official"] == on_train["official"]
    assert set(tuned["splits"]) == {"train", "validation"}
    assert set(untuned["splits"]) == {"validation"}
    assert set(evaluate(run, split="both", device="cpu").result["splits"]) == {"train", "validation"}


def test_videos_come_worst_first_and_the_interval_holds_the_score(trained):
    _, run = trained
    result = evaluate(run, split="train", device="cpu").result
    means = [scores["mean"] for scores in result["videos"].values()]
    assert means == sorted(means)
    for protocol in ("official", "paper_subset"):
        interval = result["interval"][protocol]
        for axis in ("valence", "arousal", "mean"):
            low, high = interval[axis]
            assert low <= result[protocol][axis] <= high
        assert interval["videos"] == 6


def test_a_run_whose_store_was_moved_says_how_to_name_the_new_place(trained, tmp_path):
    store, run = trained
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    facts = json.loads((moved / "run.json").read_text())
    facts["store"]["path"] = "gone.zarr"
    (moved / "run.json").write_text(json.dumps(facts))
    with pytest.raises(StoreError) as caught:
        evaluate(moved, device="cpu")
    assert str(caught.value) == (
        f"gone.zarr: there is no feature store, and {moved} was trained on it; "
        "say where it is now with --store (a relative path counts from the current folder)"
    )
    assert (
        evaluate(moved, store=store, device="cpu").result["official"] == evaluate(run, device="cpu").result["official"]
    )
    with pytest.raises(StoreError, match=r"none\.zarr: there is no feature store; check the path, or make one"):
        evaluate(moved, store=tmp_path / "none.zarr", device="cpu")


def rename(store, *names):
    """Give videos names that the run was not trained on."""
    for stream in ("image", "audio", "labels"):
        for name in names:
            (store / stream / name).rename(store / stream / f"new{name}")


def test_a_store_without_a_training_split_is_scored_without_ridge(trained, tmp_path):
    _, run = trained
    store = plant_store(tmp_path / "s.zarr", train=0, validation=2, seed=9)
    # its videos are called as those that the run was trained on
    with pytest.raises(RunError, match="was trained on 2 of the 2 videos of the validation split"):
        evaluate(run, store=store, device="cpu")
    rename(store, "video0", "video1")
    result = evaluate(run, store=store, out=tmp_path / "out", device="cpu").result
    assert result["ridge"]["official"]["mean"] is None
    assert any("no ridge baseline" in note for note in result["notes"])
    assert result["official"]["mean"] is not None


def test_training_videos_shorter_than_a_window_leave_no_ridge(trained, tmp_path):
    _, run = trained
    store = plant_store(tmp_path / "s.zarr", train=2, validation=2, seconds=3.0, seed=9)
    rename(store, "video2", "video3")
    result = evaluate(run, store=store, out=tmp_path / "out", device="cpu").result
    assert result["ridge"]["official"]["mean"] is None
    assert any("no ridge baseline" in note for note in result["notes"])


def test_features_that_are_not_finite_are_named(trained, tmp_path):
    _, run = trained
    store = tmp_path / "s.zarr"
    shutil.copytree(trained[0], store)
    source = FeatureStore.open(store)
    name = source.videos("validation")[0]
    image = source.image(name)
    embedding_ND = image.embedding_ND.copy()
    embedding_ND[5, 1] = -np.inf
    with source.writer("image", name, source.fingerprint("image")) as writer:
        writer.append(embedding=embedding_ND, frame=image.frame_N, time=image.time_N)
        writer.publish({"split": "validation", "counts": {}, "notes": []})
    said = f"the image features of frame {image.frame_N[5]} of video '{name}' are not finite"
    with pytest.raises(StoreError, match=said):
        evaluate(run, store=store, out=tmp_path / "out", device="cpu")


def test_labels_that_were_corrected_since_the_training_are_noted(trained, tmp_path):
    planted, run = trained
    shutil.copytree(planted, store := tmp_path / "s.zarr")

    def notes():
        return evaluate(run, store=store, out=tmp_path / "out", device="cpu").result["notes"]

    said = "run was trained on other labels of its videos than the store holds"
    assert said not in notes()
    source_of(store, "labels", annotation={"sha256": "corrected"})
    assert said in notes()
    shutil.rmtree(min((store / "labels").glob("video*")))
    assert said not in notes(), "a store of other videos"


def test_scores_are_not_put_into_a_run_that_they_are_not_of(trained, tmp_path):
    _, run = trained
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for runs in ([run], [run, other]):
        with pytest.raises(TargetError, match="is a run, and these scores are not its own"):
            evaluate(runs, out=other, device="cpu")
    assert evaluate(other, out=other / ".." / "other", device="cpu").folder is not None


def test_runs_of_other_videos_are_not_averaged(trained, tmp_path):
    _, run = trained
    other = plant_store(tmp_path / "s.zarr", train=6, validation=3)
    train(other, recipe(epochs=1), tmp_path / "run", device="cpu")
    with pytest.raises(StoreError, match=r"holds other videos of the validation split than .*, such as video8"):
        evaluate([run, tmp_path / "run"], device="cpu")
    same = plant_store(tmp_path / "t.zarr", seed=4)
    train(same, recipe(epochs=1), tmp_path / "again", device="cpu")
    with pytest.raises(StoreError, match="differ in the frames or labels of video 'video6'"):
        evaluate([run, tmp_path / "again"], device="cpu")


@given(
    sounds=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    most=st.integers(1, 20),
    at_once=st.integers(1, 12),
)
def test_batches_hold_every_window_once_and_no_more_windows_or_sounds_than_they_may(sounds, most, at_once):
    sound_W = np.array(sounds)
    row_W = np.argsort(sound_W, kind="stable")
    batches = batches_of(row_W, sound_W, most, at_once)
    np.testing.assert_array_equal(np.concatenate(batches), row_W)
    assert all(1 <= len(batch) <= most and len(set(sound_W[batch])) <= at_once for batch in batches)
