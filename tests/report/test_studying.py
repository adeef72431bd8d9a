"""What is found out about a run's videos, against computations from the definitions."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.definition import lin
from tests.planted import plant_store, refingerprint
from tests.report.runs import make_run, planted
from vaprompt import FeatureStore, load_run, soft_labels
from vaprompt.errors import DatasetError, FingerprintError, RunError, StoreError
from vaprompt.evaluation.protocols import Judged
from vaprompt.media.loudness import STEP
from vaprompt.report.conditions import condition_error
from vaprompt.report.densities import BINS, CELLS, FEWEST, counted, densities
from vaprompt.report.evidence import VIEWING, differing_fields, from_paper, gather
from vaprompt.report.explaining import MOST_STEPS, explain, seen_frames, summed_steps
from vaprompt.report.listening import Heard, listen
from vaprompt.report.run_page import regions_table
from vaprompt.report.studying import study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studied")
    return make_run(planted(folder), folder / "run")


def test_the_network_is_asked_at_every_stride(made: Path):
    run, store = load_run(made), FeatureStore.open(made.parent / "store.zarr")
    found = explain(run, store, "video6")
    image, audio, labels = store.image("video6"), store.audio("video6"), store.labels("video6")
    assert found.end_W.tolist() == [*np.arange(0, 30.0), pytest.approx(29.9)]
    row = 20  # the window that ends at 20 s
    exist = np.flatnonzero((image.time_N > 16 + 1e-6) & (image.time_N <= 20 + 1e-6))
    chosen = exist[np.rint(np.linspace(0, len(exist) - 1, 8)).astype(int)]
    heard = np.flatnonzero(audio.end_W <= 20 + 1e-6)[-1]
    with torch.inference_mode():
        estimate = run.estimator(
            torch.from_numpy(image.embedding_ND[chosen][None]).float(),
            torch.from_numpy(audio.embedding_WSD[heard][None]).float(),
        )
    np.testing.assert_allclose(found.region_WK[row], estimate.region_BK.softmax(dim=1)[0], atol=1e-5)
    assert found.gate_W is not None
    assert found.gate_W[row] == pytest.approx(float(estimate.gate_BTD.mean()), abs=1e-5)
    assert found.attention_WTS is not None
    assert estimate.attention_BHTS is not None
    np.testing.assert_allclose(found.attention_WTS[row], estimate.attention_BHTS[0].mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(found.attention_WTS.sum(axis=2), 1, atol=1e-4)
    np.testing.assert_array_equal(found.image_WT[row], image.time_N[chosen])
    assert found.audio_end_W[row] == audio.end_W[heard]
    target = np.flatnonzero(labels.time_F <= 20 + 1e-6)[-1]
    np.testing.assert_allclose(found.soft_WK[row], soft_labels(labels.value_F2[[target]])[0], atol=1e-6)
    assert np.isnan(found.soft_WK[0]).all()  # the first frames are not annotated
    np.testing.assert_allclose(found.region_WK.sum(axis=1), 1, atol=1e-5)


def test_a_run_without_a_gate_has_none(tmp_path: Path):
    store = planted(tmp_path)
    run = make_run(store, tmp_path / "run", model={"width": 32, "modalities": ["image"], "temporal": {"units": 32}})
    found = explain(load_run(run), FeatureStore.open(store), "video6")
    assert found.gate_W is found.attention_WTS is None
    assert study(gather(run)).explained["video7"].gate_W is None


def test_attention_over_fewer_steps_is_the_sum_over_neighbours():
    random = np.random.default_rng(0)
    attention = random.dirichlet(np.ones(101), (3, 20)).astype(np.float32)
    coarse = summed_steps(attention)
    assert coarse.shape == (3, 20, MOST_STEPS)
    np.testing.assert_allclose(coarse.sum(axis=2), 1, atol=1e-5)
    borders = [index * 101 // MOST_STEPS for index in range(MOST_STEPS)] + [101]
    for index in range(MOST_STEPS):
        expected = attention[:, :, borders[index] : borders[index + 1]].sum(axis=2)
        np.testing.assert_allclose(coarse[:, :, index], expected, atol=1e-6)
    np.testing.assert_array_equal(summed_steps(attention[:, :, :20]), attention[:, :, :20])


def test_a_face_is_where_an_embedding_is(made: Path, tmp_path: Path):
    store = FeatureStore.open(made.parent / "store.zarr")
    image, labels = store.image("video6"), store.labels("video6")
    seen = seen_frames(store, "video6", labels.time_F)
    assert seen is not None
    assert (np.flatnonzero(seen) + 1).tolist() == image.frame_N.tolist()
    copy = tmp_path / "store.zarr"
    shutil.copytree(made.parent / "store.zarr", copy)
    refingerprint(copy, "image", frames=5.0)
    rated = seen_frames(FeatureStore.open(copy), "video6", labels.time_F)
    near = [np.abs(image.time_N - time).min() <= 0.2 + 1e-6 for time in labels.time_F]
    assert rated is not None
    assert rated.tolist() == near


def test_whole_frames_say_nothing_of_faces(tmp_path: Path):
    path = plant_store(tmp_path / "s.zarr", train=1, validation=1)
    store = FeatureStore.open(path)
    store._root["dataset"]["faces"] = "frames"
    assert seen_frames(store, "video0", store.labels("video0").time_F) is None


def judged(name: str, frames: int, random: np.random.Generator) -> Judged:
    truth = random.uniform(-1, 1, (frames, 2)).astype(np.float32)
    prediction = (truth + random.normal(0, 0.3, truth.shape)).astype(np.float32)
    empty = np.zeros((0, 2), np.float32)
    return Judged(
        name,
        np.arange(frames) / 10,
        prediction,
        truth,
        random.random(frames) > 0.2,
        empty,
        empty,
        np.zeros(0, np.int64),
    )


def test_errors_under_a_condition_are_those_of_its_valid_frames():
    random = np.random.default_rng(5)
    videos = [judged(f"v{index}", 200 + 10 * index, random) for index in range(6)]
    flags = {video.name: random.random(len(video.time_F)) > 0.4 for video in videos[:5]}
    found = condition_error("talking", videos, flags)
    errors, truths, predictions, known = [], [], [], 0
    for video in videos[:5]:
        known += video.valid_F.sum()
        for index in range(len(video.time_F)):
            if video.valid_F[index] and flags[video.name][index]:
                truths.append(video.truth_F2[index])
                predictions.append(video.prediction_F2[index])
                errors.append(video.prediction_F2[index].astype(float) - video.truth_F2[index])
    error = np.array(errors)
    assert found.frames == len(error)
    assert found.share == pytest.approx(len(error) / known)
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean(axis=0)))
    assert found.bias == pytest.approx(error.mean(axis=0))
    assert found.scores["valence"] == pytest.approx(lin(np.array(predictions)[:, 0], np.array(truths)[:, 0]), abs=1e-6)
    for axis in (0, 1):
        ends = found.interval[axis]
        assert ends is not None
        assert ends[0] < found.rmse[axis] < ends[1]


def test_a_condition_that_never_holds_has_no_error():
    random = np.random.default_rng(5)
    videos = [judged("a", 20, random)]
    found = condition_error("never", videos, {"a": np.zeros(20, bool)})
    assert (found.frames, found.rmse, found.bias, found.interval) == (0, None, None, (None, None))
    assert found.scores["mean"] is None
    alone = condition_error("always", videos, {"a": np.ones(20, bool)})
    assert alone.interval == (None, None)
    assert alone.share == 1


def test_the_planes_bins_hold_every_frame_once():
    values = np.array([[-1, -1], [1, 1], [0, 0], [0.001, -0.001], [-0.5, 0.9], [7, -7]], np.float32)
    found = counted(values, 1.0)
    assert found.sum() == len(values)
    middle = BINS // 2
    assert found[middle, middle] == 2
    assert found[0, 0] == 1
    assert found[BINS - 1, BINS - 1] == 1
    assert found[0, BINS - 1] == 1  # what is beyond lies at the edge
    assert found[int((0.9 + 1) / 2 * BINS), int((-0.5 + 1) / 2 * BINS)] == 1


def test_arrows_lead_from_a_places_mean_truth_to_its_mean_prediction():
    random = np.random.default_rng(1)
    truth = random.uniform(-1, 1, (4000, 2)).astype(np.float32)
    prediction = (0.5 * truth + 0.1).astype(np.float32)
    found = densities(prediction, truth)
    assert found.error_BB.sum() == 4000
    assert len(found.arrows) == CELLS**2
    for valence, arousal, to_valence, to_arousal, frames in found.arrows:
        assert frames >= FEWEST
        assert to_valence == pytest.approx(0.5 * valence + 0.1, abs=1e-3)
        assert to_arousal == pytest.approx(0.5 * arousal + 0.1, abs=1e-3)
    assert found.bias == pytest.approx((0.1 - 0.5 * truth.mean(axis=0)), abs=1e-6)
    assert len(densities(prediction[:FEWEST], truth[:FEWEST]).arrows) == 0


def test_the_table_of_regions_weighs_each_moment_by_its_soft_target(made: Path):
    evidence = gather(made)
    found = study(evidence)
    table = regions_table(evidence, found)
    assert table is not None
    row, column = 3, 5
    weight = total = target = 0.0
    for one in found.explained.values():
        for soft, given in zip(one.soft_WK, one.region_WK, strict=True):
            if not np.isnan(soft[0]):
                weight += float(soft[row])
                total += float(soft[row]) * float(given[column])
                target += float(soft[row]) * float(soft[column])
    assert table["mixed"][row][column] == pytest.approx(total / weight, rel=1e-4)
    assert table["target"][row][column] == pytest.approx(target / weight, rel=1e-4)
    assert sum(table["true_share"]) == pytest.approx(1)
    assert sum(table["predicted_share"]) == pytest.approx(1)


def test_without_its_store_a_run_is_reported_with_what_is_known(made: Path, tmp_path: Path):
    moved = tmp_path / "run"
    shutil.copytree(made, moved)
    text = (moved / "run.json").read_text()
    (moved / "run.json").write_text(text.replace(str(made.parent / "store.zarr"), str(tmp_path / "gone.zarr")))
    found = study(gather(moved))
    assert found.lacking
    assert found.explained == {}
    assert "there is no feature store" in found.notes[0]
    assert "--store" in found.notes[0]
    assert [row.name for row in found.conditions] == ["all frames"]
    with pytest.raises(StoreError, match="there is no feature store"):
        study(gather(moved), store=tmp_path / "none.zarr")
    whole = study(gather(moved), store=made.parent / "store.zarr")
    assert set(whole.explained) == {"video6", "video7"}


def test_a_store_that_was_made_otherwise_is_refused(made: Path, tmp_path: Path):
    shutil.copytree(made.parent / "store.zarr", tmp_path / "other.zarr")
    refingerprint(tmp_path / "other.zarr", "audio", hop=2.0)
    with pytest.raises(FingerprintError, match="hop"):
        study(gather(made), store=tmp_path / "other.zarr")


def test_what_is_not_evaluated_names_the_command(made: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "run")
    for name in ("evaluation.json", "predictions.safetensors"):
        (tmp_path / "run" / name).unlink()
    with pytest.raises(RunError, match=f"has no predictions yet; make them with: vaprompt evaluate {tmp_path / 'run'}"):
        gather(tmp_path / "run")
    text = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(text.replace('"complete"', '"training"'))
    with pytest.raises(RunError, match="is not finished"):
        gather(tmp_path / "run")
    with pytest.raises(RunError, match="is not a run"):
        gather(tmp_path)


def test_metrics_that_are_damaged_are_refused_and_missing_ones_are_not(made: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="does not hold an epoch in every line"):
        gather(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("nonsense")
    with pytest.raises(RunError, match="cannot be read"):
        gather(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    os.mkfifo(tmp_path / "run" / "metrics.jsonl")  # reading from it would never end
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read \(it is no file\)"):
        gather(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert gather(tmp_path / "run").history == []


def test_fields_that_differ_are_named_with_all_values(made: Path, tmp_path: Path):
    other = make_run(made.parent / "store.zarr", tmp_path / "other", loss={"kl": 0.0}, seed=4)
    one, two = gather(made), gather(other)
    assert differing_fields([one, two]) == {"train.loss.kl": [0.2, 0.0], "train.seed": [0, 4]}
    assert differing_fields([one]) == {}
    _, training = from_paper(two)
    named = {difference.field: (difference.value, difference.paper) for difference in training}
    assert named["loss.kl"] == (0.0, 0.2)
    assert "seed" not in named
    assert one.smoothing == VIEWING
    assert one.tuned is False


def test_sound_is_heard_in_the_data_set_that_the_store_was_made_of(
    small_dataset: Path, small_store: Path, tmp_path: Path
):
    store = FeatureStore.open(small_store)
    names = store.videos("validation") + store.videos("train")
    found = listen(small_dataset, store, [*names, "no-such-video"])
    assert set(found.loudness) == set(names)
    assert found.missing == {"no-such-video": "its media file is not there"}
    for name in names:
        last = float(store.labels(name).time_F[-1])
        assert len(found.loudness[name].level_G) == int(last / STEP) + 1
    pair = [name for name in names if f"{name}_right" in names]
    for name in pair:
        assert found.loudness[name].level_G is found.loudness[f"{name}_right"].level_G
    changed = tmp_path / "data"
    shutil.copytree(small_dataset, changed)
    for path in changed.rglob("*.mp4"):
        path.write_bytes(path.read_bytes() + b"more")
    heard = listen(changed, store, names[:1])
    assert heard.loudness == {}
    assert "has" in heard.missing[names[0]]
    with pytest.raises(DatasetError):
        listen(tmp_path / "nothing", store, names)
    # Sound that is left out is not missing.
    silent = tmp_path / "silent.toml"
    silent.write_text(f'name = "data"\nroot = "{small_dataset}"\nmodalities = ["image"]\n')
    assert listen(silent, store, names) == Heard(left_out=True)
