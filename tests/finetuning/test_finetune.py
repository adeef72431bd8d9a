"""Fine-tuning from a run to a run: like any other afterwards, the same bytes whatever is killed, faults in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.finetuning.conftest import FROZEN, recipe
from vaprompt import FeatureStore
from vaprompt.encoders.weights import tensor_digest
from vaprompt.errors import FingerprintError, MissingStreamError, RunError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.finetuning import finetune as module
from vaprompt.finetuning.finetune import finetune
from vaprompt.finetuning.parity import BOUND, cached_predictions
from vaprompt.finetuning.provenance import NO_GAIN, facts_at_start
from vaprompt.metrics import scores
from vaprompt.prediction.predict import predict
from vaprompt.progress import Silent
from vaprompt.training.data import Resident
from vaprompt.training.runs import load_run

SKIPPED = {"run.json"}
"""Holds where the run and its parent lie, and nothing that was computed beyond the other files."""


def contents(run: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in SKIPPED}


def facts_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_the_run_is_whole_and_knows_where_it_comes_from(tuned, base):
    assert sorted(contents(tuned)) == [
        "checkpoint.safetensors",
        "encoders/audio/config.json",
        "encoders/audio/model.safetensors",
        "encoders/audio/preprocessor_config.json",
        "encoders/image/open_clip_config.json",
        "encoders/image/open_clip_model.safetensors",
        "finetune.toml",
        "metrics.jsonl",
        "recipe.toml",
    ]
    facts, parent = facts_of(tuned), facts_of(base)
    assert facts["status"] == "complete"
    assert facts["parent"]["run"] == str(base)
    assert facts["parent"]["fingerprints"] == parent["store"]["fingerprints"]
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    best = max(lines, key=lambda line: line["validation"]["mean"])
    assert facts["best_epoch"] == best["epoch"]
    assert facts["best"]["mean"] == best["validation"]["mean"]
    assert facts["seconds"] > 0
    assert facts["start"]["largest_difference"] <= BOUND
    for stream, file in (("image", "open_clip_model.safetensors"), ("audio", "model.safetensors")):
        digest = tensor_digest(tuned / "encoders" / stream / file)
        assert facts["encoders"][stream]["weights"] == digest
        assert facts["store"]["fingerprints"][stream]["weights"] == digest
        old, new = parent["store"]["fingerprints"][stream], facts["store"]["fingerprints"][stream]
        assert {key for key in old if old[key] != new[key]} == {"weights"}
    assert any("drawn faces" in note for note in facts["notes"])


def test_heads_and_both_encoders_have_learned(tuned, base):
    from vaprompt.encoders import embedded

    for mine, before in (
        (tuned / "checkpoint.safetensors", base / "checkpoint.safetensors"),
        (tuned / "encoders/image/open_clip_model.safetensors", embedded.CLIP_WEIGHTS),
        (tuned / "encoders/audio/model.safetensors", embedded.AST_WEIGHTS),
    ):
        now, then = load_file(mine), load_file(before)
        assert now.keys() == then.keys()
        changed = {name for name in now if not torch.equal(now[name].float(), then[name].float())}
        assert changed
        if "image" in str(mine):
            assert all(name.startswith("visual.") for name in changed), "the text tower stays"


def test_features_from_the_tuned_encoders_score_as_the_training_did(tuned, tuned_store, tmp_path):
    """Provenance closes the circle: the store's stream fits the run, and says what raw media said."""
    run, facts = load_run(tuned), facts_of(tuned)
    store = FeatureStore.open(tuned_store, facts["recipe"]["stream"])
    for stream, fingerprint in facts["store"]["fingerprints"].items():
        store.require(stream, fingerprint)
    value = cached_predictions(run, store, facts["videos"]["validation"])
    truth = Resident(store, run.recipe).split("validation", run.recipe).windows.value_W2.numpy()
    assert scores(value, truth)["mean"] == pytest.approx(facts["best"]["mean"], abs=0.005)
    evaluation = evaluate(tuned, store=tuned_store, device="cpu", out=tmp_path / "scores").result
    assert evaluation["official"]["frames"] > 0


def test_a_store_without_its_features_is_refused_with_the_way_to_get_them(tuned, base, small_store, tuned_store):
    with pytest.raises(MissingStreamError, match=r"vaprompt extract DATA --encoders .*tuned --store .*store.zarr"):
        evaluate(tuned, device="cpu")
    with pytest.raises(FingerprintError, match="weights"):
        evaluate_on_the_wrong_features(base, tuned, tuned_store)


def evaluate_on_the_wrong_features(base: Path, tuned: Path, tuned_store: Path) -> None:
    """Give a run of the parent's encoders the stream of the tuned ones."""
    stream = facts_of(tuned)["recipe"]["stream"]
    run = load_run(base)
    store = FeatureStore.open(tuned_store, stream)
    for kind, fingerprint in run.facts["store"]["fingerprints"].items():
        store.require(kind, fingerprint)


def test_prediction_uses_the_runs_own_encoders_wherever_it_lies(tuned, base, small_dataset, tmp_path):
    media = sorted(small_dataset.rglob("*.mp4"))[:1]
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(tuned, moved)
    here, there, before = (
        predict(run, media, tmp_path / name, faces="frames", device="cpu").done[0].value_F2
        for run, name in ((tuned, "a"), (moved, "b"), (base, "c"))
    )
    np.testing.assert_array_equal(here, there)
    assert not np.allclose(here, before, atol=1e-4)
    other = load_file(moved / "encoders/audio/model.safetensors")
    name = next(iter(other))
    from safetensors.torch import save_file

    save_file(other | {name: other[name] + 1}, moved / "encoders/audio/model.safetensors")
    with pytest.raises(FingerprintError, match="audio encoder"):
        predict(moved, media, tmp_path / "d", faces="frames", device="cpu")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_undisturbed(tuned, base, small_dataset, tmp_path):
    """What the killed ones below show as well, and with them every time."""
    again = tmp_path / "tuned"  # the folder's name is the stream's, which recipe.toml holds
    finetune(base, small_dataset, recipe(), again, device="cpu", workers=2)
    assert contents(again) == contents(tuned)


def test_what_another_process_completed_meanwhile_is_not_tuned_once_more(tuned, base, small_dataset, tmp_path):
    new = tmp_path / "tuned"

    class Overtaken(Silent):
        def task(self, name, total=None, unit=""):
            if name == "loading the encoders":
                shutil.copytree(tuned, new)
            return super().task(name, total, unit)

    assert not finetune(base, small_dataset, recipe(), new, device="cpu", progress=Overtaken()).trained


def test_a_complete_run_is_left_as_it_is_and_another_seed_refused(tuned, base, small_dataset):
    before = contents(tuned)
    assert not finetune(base, small_dataset, recipe(), tuned, device="cpu").trained
    with pytest.raises(RunError, match=r"differs in finetune\.seed \(0 there, 1 asked for\)"):
        finetune(base, small_dataset, recipe(seed=1), tuned, device="cpu")
    assert contents(tuned) == before


def test_one_whose_labels_were_corrected_since_is_refused(tuned, base, small_dataset, tmp_path):
    shutil.copytree(tuned, new := tmp_path / "tuned")
    facts = facts_of(new)
    facts["store"]["sources"]["labels"] = "sha256:0"
    (new / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match=r"tuned: holds a run that differs in store\.sources\.labels; name a new folder"):
        finetune(base, small_dataset, recipe(), new, device="cpu")
    del facts["store"]["sources"]  # as runs of earlier versions
    (new / "run.json").write_text(json.dumps(facts))
    assert not finetune(base, small_dataset, recipe(), new, device="cpu").trained


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads({threads})
import vaprompt.finetuning.{module} as module
from vaprompt.finetuning.finetune import finetune
from tests.finetuning.conftest import recipe
calls = 0
owner = {owner}
original = owner.{function}
def dying(*arguments, **named):
    global calls
    calls += 1
    result = original(*arguments, **named)
    if calls == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
owner.{function} = dying
base, data, new = map(Path, sys.argv[1:])
finetune(base, data, recipe(), new, device="cpu", save_seconds=0)
"""
POINTS = [
    # behind the third step, which is in the first epoch: its state is saved behind every step
    ("session", "module.Session", "_step", 3),
    ("job", "module", "save_state", 2),
    # the best epoch's weights are there, and the state does not know of them
    ("job", "module", "save_best", 2),
    ("job", "module", "put_best", 1),
    ("job", "module", "save_weights", 1),
    ("job", "module", "save_encoders", 1),
    ("finetune", "module", "_prepare", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "owner", "function", "at"), POINTS)
def test_a_killed_fine_tuning_ends_like_an_undisturbed_one(
    place, owner, function, at, base, small_dataset, tuned, tmp_path
):
    new = tmp_path / "tuned"
    code = KILLED.format(module=place, owner=owner, function=function, at=at, threads=torch.get_num_threads())
    command = [sys.executable, "-c", code, base, small_dataset, new]
    killed = subprocess.run(command, check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert facts_of(new)["status"] == "training"
    with pytest.raises(RunError, match="not finished"):
        load_run(new)
    assert finetune(base, small_dataset, recipe(), new, device="cpu", workers=2, resume=True).trained
    assert contents(new) == contents(tuned), "however many processes load"


FRESH = """
import os, signal, sys
from pathlib import Path
import vaprompt.finetuning.session as module
from vaprompt.finetuning.finetune import finetune
from tests.finetuning.conftest import recipe
original, calls = module.Session._step, 0
def dying(*arguments, **named):
    global calls
    calls += 1
    result = original(*arguments, **named)
    if calls == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
module.Session._step = dying
base, data, new = map(Path, sys.argv[1:4])
finetune(base, data, recipe(), new, device="cpu", save_seconds=0, workers=1)
"""


@pytest.mark.slow
def test_whoever_goes_on_computes_as_whoever_began_where_nothing_sets_the_threads(base, small_dataset, tmp_path):
    """In processes of their own: what is settled once in a process, and how sums are split, is not this one's."""

    def tune(new, killed_at=0):
        command = [sys.executable, "-c", FRESH, base, small_dataset, new, str(killed_at)]
        return subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode

    whole, killed = tmp_path / "whole" / "tuned", tmp_path / "killed" / "tuned"
    assert tune(whole) == 0
    assert tune(killed, killed_at=2) == -signal.SIGKILL
    assert tune(killed) == 0
    assert contents(killed) == contents(whole)


def test_what_a_tuned_run_gained_is_no_note_of_one_that_starts_from_it(base, tmp_path):
    parent = load_run(base)
    noted = replace(parent, facts={**parent.facts, "notes": [NO_GAIN, "another"]})
    source = FeatureStore.open(parent.facts["store"]["path"])
    notes = facts_at_start(noted, source, recipe(), parent.recipe, "cpu")["notes"]
    assert "another" in notes
    assert NO_GAIN not in notes


@pytest.mark.slow
def test_a_run_that_was_tuned_is_tuned_again_and_keeps_what_stays(tuned, tuned_store, small_dataset, tmp_path):
    """Its image encoder alone is trained: its tuned audio encoder comes along, so that the folder needs no other."""
    wanted = recipe(audio={"tune": "none"}, image={"tune": "norms"}, epochs=1)
    finetune(tuned, small_dataset, wanted, tmp_path / "again", store=tuned_store, device="cpu")
    facts, parent = facts_of(tmp_path / "again"), facts_of(tuned)
    assert set(facts["encoders"]) == {"image"}
    assert facts["encoders"]["image"]["tune"] == "norms"
    assert facts["extraction"]["audio"]["weights"] == "run:audio"
    assert facts["store"]["fingerprints"]["audio"] == parent["store"]["fingerprints"]["audio"]
    assert facts["store"]["fingerprints"]["image"] != parent["store"]["fingerprints"]["image"]
    moved = tmp_path / "moved"
    (tmp_path / "again").rename(moved)
    weights = load_run(moved).facts["extraction"]["audio"]["weights"]
    assert weights == str(moved / "encoders" / "audio")
    assert tensor_digest(Path(weights) / "model.safetensors") == facts["store"]["fingerprints"]["audio"]["weights"]


@pytest.mark.slow
def test_pictures_alone(small_store, small_dataset, tmp_path):
    from tests.finetuning.conftest import HEADS, heads_recipe
    from vaprompt.training.run import train

    alone = heads_recipe(model=HEADS["model"] | {"modalities": ["image"]}, epochs=1)
    train(small_store, alone, tmp_path / "base", device="cpu")
    finetune(tmp_path / "base", small_dataset, recipe(epochs=1), tmp_path / "new", device="cpu")
    facts = facts_of(tmp_path / "new")
    assert set(facts["encoders"]) == {"image"}
    assert facts["extraction"]["audio"]["weights"] == "embedded"
    assert set(facts["store"]["fingerprints"]) == {"image"}
    media = sorted(small_dataset.rglob("*.mp4"))[:1]
    for run in ("base", "new"):
        (done,) = predict(tmp_path / run, media, tmp_path / "predicted", faces="frames", device="cpu").done
        assert np.isfinite(done.value_F2).all()
    assert facts["start"]["largest_difference"] <= BOUND


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_saves_single(base, small_dataset, tmp_path, precision):
    changes = {"precision": precision, "epochs": 1, "checkpointing": False, "at_once": 6}
    finetune(base, small_dataset, recipe(**changes), tmp_path / "new", device="cpu")
    weights = load_file(tmp_path / "new" / "encoders/image/open_clip_model.safetensors")
    assert {value.dtype for value in weights.values()} <= {torch.float32, torch.int64}
    assert facts_of(tmp_path / "new")["start"]["largest_difference"] < 0.05


@pytest.mark.slow
def test_augmentation_changes_what_is_trained_on_and_not_what_is_scored(tuned, base, small_dataset, tmp_path):
    wild = {"flip": 0.5, "crop": 0.2, "brightness": 0.3, "gain": 6, "time_mask": 200, "band_mask": 30}
    finetune(base, small_dataset, recipe(augmentation=wild, epochs=1), tmp_path / "new", device="cpu")
    mine, other = facts_of(tmp_path / "new"), facts_of(tuned)
    assert mine["start"] == other["start"]
    first = [json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in (tmp_path / "new", tuned)]
    assert first[0]["train"]["loss"] != first[1]["train"]["loss"]


@pytest.mark.slow
def test_a_shared_scratch_folder_is_decoded_into_once(base, small_dataset, tmp_path, monkeypatch):
    asked = []
    original = module._prepare

    def counting(material, *others):
        asked.append(len(material.missing()))
        original(material, *others)

    monkeypatch.setattr(module, "_prepare", counting)
    for name in ("a", "b"):
        finetune(base, small_dataset, recipe(epochs=1), tmp_path / name, scratch=tmp_path / "scratch", device="cpu")
    assert asked[0] > 0
    assert asked[1] == 0
    assert list((tmp_path / "scratch").glob("*.sound.npy"))


def test_what_a_killed_process_left_in_a_shared_scratch_folder_is_cleared(base, small_dataset, tmp_path, monkeypatch):
    """Decoded pictures are gigabytes, and whoever comes next asks for as much room again."""
    (shared := tmp_path / "scratch").mkdir()
    old, written_now = (shared / f".{name}.sound.npy.7.partial.npy" for name in ("old", "now"))
    for path in (old, written_now):
        path.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(module, "Workers", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        finetune(base, small_dataset, recipe(**FROZEN), tmp_path / "new", scratch=shared, device="cpu")
    assert list(shared.iterdir()) == [written_now]
