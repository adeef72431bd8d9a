"""Scores against an independent computation from the labels and the run's own predictions."""

import json

import numpy as np
import pytest

from tests.planted import plant_store
from tests.training.test_run import recipe
from vaprompt import FeatureStore, load_run
from vaprompt.errors import FingerprintError, StoreError
from vaprompt.evaluation.baseline import RidgeBaseline
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.protocols import judge, official, paper_subset
from vaprompt.training.run import train


def lin(x, y):
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    store = plant_store(folder / "store.zarr", test=1)
    train(store, recipe(), folder / "run", device="cpu")
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
    labels = source.labels("video6")
    found = baseline.predict_at(ends, source.image("video6"), source.audio("video6"), labels.time_F)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_splits_without_labels_and_other_stores_are_refused(trained, tmp_path):
    store, run = trained
    with pytest.raises(StoreError, match="no labelled video of the test split"):
        evaluate(run, split="test", device="cpu")
    other = plant_store(tmp_path / "other.zarr", train=2, validation=1)
    source = FeatureStore.open(other)
    (other / "audio" / "zarr.json").write_text(
        (other / "audio" / "zarr.json").read_text().replace('"planted"', '"another"')
    )
    assert source.path == other
    with pytest.raises(FingerprintError, match=r"encoder: another here, planted asked for"):
        evaluate(run, store=other, device="cpu")
    with pytest.raises(StoreError):
        evaluate(run, store=tmp_path / "none.zarr", device="cpu")
    assert store.exists()
