"""Training from a store to a run: it learns, repeats itself to the byte, and refuses what is off."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.planted import plant_store, source_of
from tests.training.small import SMALL, contents, recipe
from vaprompt import FeatureStore, load_run
from vaprompt.errors import RunError, StoreError
from vaprompt.training.checkpoint import load_weights
from vaprompt.training.facts import CLIP_NOTE
from vaprompt.training.run import train
from vaprompt.training.step import window_loss


def test_it_learns_the_planted_signal(undisturbed):
    lines = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["train"]["loss"] < 0.6 * lines[0]["train"]["loss"]
    facts = json.loads((undisturbed / "run.json").read_text())
    assert facts["status"] == "complete"
    assert facts["best"]["mean"] > 0.7
    assert not list(undisturbed.glob("*resume*")) + list(undisturbed.glob(".*"))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(store, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path / "cache"))
    train(store, recipe(), tmp_path / "again", device="cpu", memory=1)
    assert contents(tmp_path / "again") == contents(undisturbed)
    assert any((tmp_path / "cache/features").iterdir()), "not from memory, as the undisturbed one: from a mapped file"
    train(store, recipe(seed=1), tmp_path / "other", device="cpu")
    assert contents(tmp_path / "other") != contents(undisturbed)


def test_a_training_leaves_the_callers_random_state_alone(store, tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(store, recipe(epochs=1), tmp_path / "run", device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_complete_run_is_left_alone_and_another_recipe_is_refused(store, undisturbed):
    before = contents(undisturbed)
    assert not train(store, recipe(), undisturbed, device="cpu").trained
    with pytest.raises(RunError, match=r"loss\.kl \(0\.2 there, 0\.5 asked for\)"):
        train(store, recipe(loss={"kl": 0.5}), undisturbed, device="cpu")
    assert contents(undisturbed) == before


def test_a_run_from_before_a_field_was_there_is_the_same_run(store, undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    facts = json.loads((run / "run.json").read_text())
    del facts["recipe"]["model"]["modality_dropout"], facts["recipe"]["loss"]["temperature"]
    (run / "run.json").write_text(json.dumps(facts))
    assert not train(store, recipe(), run, device="cpu").trained
    with pytest.raises(RunError, match=r"loss\.temperature \(1\.0 there, 2\.0 asked for\)"):
        train(store, recipe(loss={"temperature": 2.0}), run, device="cpu")


def test_another_store_is_refused(undisturbed, tmp_path):
    other = plant_store(tmp_path / "other.zarr", train=3)
    with pytest.raises(RunError, match=r"videos\.train"):
        train(other, recipe(), undisturbed, device="cpu")


def test_so_is_one_whose_labels_were_corrected_since(store, undisturbed, tmp_path):
    made_of, early, late = tmp_path / "store.zarr", tmp_path / "early", tmp_path / "late"
    shutil.copytree(store, made_of)
    shutil.copytree(undisturbed, early)
    facts = json.loads((early / "run.json").read_text())
    del facts["store"]["sources"]  # as runs of earlier versions
    (early / "run.json").write_text(json.dumps(facts))
    source_of(made_of, "labels", annotation={"sha256": "a", "mtime_ns": 1})
    again = recipe(epochs=1, model=SMALL["model"] | {"modalities": ["image"]})
    train(made_of, again, late, device="cpu")
    source_of(made_of, "labels", annotation={"sha256": "a", "mtime_ns": 2})
    source_of(made_of, "audio", media={"sha256": "a", "mtime_ns": 2})
    assert not train(made_of, again, late, device="cpu").trained
    source_of(made_of, "labels", annotation={"sha256": "b", "mtime_ns": 2})
    with pytest.raises(RunError, match=r"late: holds a run that differs in store\.sources\.labels; name a new folder"):
        train(made_of, again, late, device="cpu")
    assert not train(made_of, recipe(), early, device="cpu").trained


def test_it_stops_when_patience_ends(store, tmp_path):
    result = train(
        store,
        recipe(epochs=30, patience=2, optimiser={"learning_rate": 1e-7}, min_gain=0.5),
        tmp_path / "r",
        device="cpu",
    )
    assert result.epochs == 3
    assert result.best_epoch == 1


def test_a_loss_that_is_no_number_ends_in_one_line(store, tmp_path, monkeypatch):
    steps = 0

    def breaking(*arguments):
        nonlocal steps
        steps += 1
        loss, told = window_loss(*arguments)
        return (loss * torch.nan, told * torch.nan) if steps == 14 else (loss, told)

    monkeypatch.setattr("vaprompt.training.step.window_loss", breaking)
    # Ten steps an epoch: six videos of 25 windows.
    said = (
        r"in step 4 of epoch 2, on windows of video0, .*; .*best-1\.safetensors holds the best epoch; lower optimiser"
    )
    with pytest.raises(RunError, match=said):
        train(store, recipe(), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "best-1.safetensors").exists()


def test_weights_that_break_in_an_epochs_last_step_end_in_one_line(store, tmp_path, monkeypatch):
    """Its loss is a number, its gradient is not: nothing but the predictions behind the epoch shows it."""
    steps = 0

    def breaking(*arguments):
        nonlocal steps
        steps += 1
        loss, told = window_loss(*arguments)
        return (loss * torch.nan if steps == 20 else loss), told

    monkeypatch.setattr("vaprompt.training.step.window_loss", breaking)
    said = (
        r"predictions for video6, video7 are no longer numbers behind step 10 of epoch 2, on windows of video\d, .*; "
        r".*best-1\.safetensors holds the best epoch; lower optimiser"
    )
    with pytest.raises(RunError, match=said):
        train(store, recipe(), tmp_path / "run", device="cpu")


@pytest.mark.parametrize("gate", ["linear", "projected"])
def test_half_of_the_bits_learn_as_well(store, undisturbed, tmp_path, gate):
    model = {**SMALL["model"], "fusion": {"feedforward": 64, "gate": gate}}
    result = train(store, recipe(compute={"precision": "bf16"}, model=model), tmp_path / "half", device="cpu")
    assert result.mean > 0.7
    weights, _ = load_weights(tmp_path / "half" / "checkpoint.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    exact = json.loads((undisturbed / "metrics.jsonl").read_text().splitlines()[0])
    half = json.loads((tmp_path / "half" / "metrics.jsonl").read_text().splitlines()[0])
    if gate == "linear":
        assert half["train"]["loss"] != exact["train"]["loss"]
        assert half["train"]["loss"] == pytest.approx(exact["train"]["loss"], abs=2e-2)


def test_the_bytes_do_not_depend_on_the_number_of_threads(store, undisturbed, tmp_path):
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            train(store, recipe(), tmp_path / str(threads), device="cpu")
        finally:
            torch.set_num_threads(before)
        assert contents(tmp_path / str(threads)) == contents(undisturbed)


def test_splits_that_cannot_be_trained_on_are_named(tmp_path):
    with pytest.raises(StoreError, match="no video of the validation split"):
        train(plant_store(tmp_path / "a.zarr", validation=0, train=2), recipe(), tmp_path / "run", device="cpu")
    short = plant_store(tmp_path / "b.zarr", seconds=3, train=2, validation=1)
    with pytest.raises(StoreError, match=r"0 windows of 4 s"):
        train(short, recipe(), tmp_path / "run", device="cpu")
    invalid = plant_store(tmp_path / "c.zarr", train=2, validation=1, valid=False)
    with pytest.raises(StoreError, match=r"none of the train split's 2 videos has a frame with a valid label"):
        train(invalid, recipe(), tmp_path / "run", device="cpu")


def test_a_store_without_sound_is_refused_with_its_streams_and_trains_on_pictures_alone(tmp_path):
    store = plant_store(tmp_path / "a.zarr", train=1, validation=1)
    shutil.rmtree(store / "audio")
    with pytest.raises(StoreError, match=r"no stream 'audio' \(streams that it has: image, labels\); .*modalities"):
        train(store, recipe(), tmp_path / "run", device="cpu")
    pictures = recipe(model=SMALL["model"] | {"modalities": ["image"]}, epochs=1)
    assert train(store, pictures, tmp_path / "run", device="cpu").trained  # one video to train on suffices


def test_a_run_without_its_checkpoint_or_with_a_cut_one_is_refused(store, undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    whole = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="not a whole safetensors file"):
        load_run(run)
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(RunError, match="is missing"):
        load_run(run)
    (run / "run.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        load_run(run)
    (run / "run.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="format 99"):
        load_run(run)
    (run / "run.json").write_text('{"format": 1, "status": "complete"}')
    for asked in (lambda: load_run(run), lambda: train(store, recipe(), run, device="cpu")):
        with pytest.raises(RunError, match=r"run\.json: lacks 'recipe'"):
            asked()
    with pytest.raises(RunError, match="is not a run"):
        load_run(tmp_path)


@pytest.mark.parametrize("part", ["path", "fingerprints", "dataset", "sources"])
def test_a_run_that_says_what_cannot_be_of_its_store_is_refused(store, undisturbed, tmp_path, part):
    facts = json.loads((undisturbed / "run.json").read_text())
    facts["store"][part] = ["none"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    for asked in (lambda: load_run(tmp_path), lambda: train(store, recipe(), tmp_path, device="cpu")):
        with pytest.raises(RunError, match=rf"run\.json: lacks 'store\.{part}', or has one that cannot be"):
            asked()


def test_a_loaded_run_predicts_every_frame_from_arrays(store, undisturbed):
    run = load_run(undisturbed)
    source = FeatureStore.open(store)
    image, audio, labels = source.image("video7"), source.audio("video7"), source.labels("video7")
    arrays = (image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, labels.time_F)
    value = run.predict(*arrays)
    assert value.shape == (len(labels.time_F), 2)
    assert np.isfinite(value).all()
    assert np.abs(value).max() <= 1
    error = np.abs(value[labels.valid_F] - labels.value_F2[labels.valid_F]).mean()
    assert error < 0.25
    with pytest.raises(RunError, match="channels"):
        run.predict(image.embedding_ND[:, :-1], *arrays[1:])


def test_clip_semantics_say_that_their_kl_term_trains_nothing(store, tmp_path):
    clip = {"model": SMALL["model"] | {"prompt": {"semantic": "clip"}}, "epochs": 2}
    result = train(store, recipe(**clip), tmp_path / "a", device="cpu")
    assert CLIP_NOTE in result.notes
    without = train(store, recipe(**clip, loss={"kl": 0}), tmp_path / "b", device="cpu")
    assert without.notes == []
    assert (tmp_path / "a" / "checkpoint.safetensors").read_bytes() == (
        tmp_path / "b" / "checkpoint.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    "model",
    [
        {"head": {"output": "sequence"}},
        {"temporal": {"kind": "tcn"}},
        {"modalities": ["image"]},
        {"modalities": ["audio"]},
    ],
)
def test_variants_learn(store, tmp_path, model):
    fields = {"model": SMALL["model"] | model, "epochs": 8}
    result = train(store, recipe(**fields), tmp_path / "run", device="cpu")
    assert result.mean > 0.5
