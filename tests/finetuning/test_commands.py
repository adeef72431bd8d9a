"""Fine-tuning on the command line, and what the other commands do with the run that it leaves."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.calling import call
from tests.finetuning.conftest import FAST
from vaprompt import FeatureStore


def options() -> list[str]:
    return ["--set", "optimiser.encoder_learning_rate=1e-4", "--set", "at_once=4", "--set", f"epochs={FAST['epochs']}"]


def test_a_complete_one_is_left_alone_and_told(tuned, base, small_dataset, small_store):
    """The recipe that the options make is the one that the fixture used, so nothing is trained again."""
    outcome = call("finetune", base, small_dataset, "--run", tuned, *options(), "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    told = outcome.json
    assert told["trained"] is False
    assert told["stream"] == "tuned"
    assert set(told["start"]) >= {"valence", "arousal", "mean", "largest_difference"}
    shown = call("finetune", base, small_dataset, "--run", tuned, *options(), "--device", "cpu")
    following = f"next: vaprompt extract {small_dataset} --encoders {tuned} --store {small_store}, then"
    assert shown.out.splitlines()[-1].startswith(following)
    outcome = call("finetune", base, small_dataset, "--run", tuned, *options(), "--seed", "4", "--device", "cpu")
    assert outcome.code == 2
    assert "finetune.seed (0 there, 4 asked for)" in outcome.fault


@pytest.mark.slow
def test_where_heads_alone_are_tuned_nothing_is_to_be_extracted(base, small_dataset, tmp_path):
    new = tmp_path / "new"
    options = ["--set", "image.tune=none", "--set", "audio.tune=none", "--set", "epochs=1", "--device", "cpu"]
    shown = call("finetune", base, small_dataset, "--run", new, *options)
    assert shown.out.splitlines()[-1] == f"next: vaprompt evaluate {new}"
    assert call("evaluate", new, "--device", "cpu").code == 0


def test_its_features_join_the_store_and_every_command_follows(tuned, base, small_store, small_dataset, tmp_path):
    store = tmp_path / "store.zarr"
    shutil.copytree(small_store, store)
    before = call("store", "info", store, "--json").json["streams"]
    made = call("extract", small_dataset, "--encoders", tuned, "--store", store, "--json")
    assert made.code == 0, made.err
    assert len(made.json["done"]) == 6
    info = call("store", "info", store, "--json").json
    assert info["streams"] == before | {name: info["streams"][name] for name in ("image.tuned", "audio.tuned")}
    again = call("extract", small_dataset, "--encoders", tuned, "--store", store, "--json").json
    assert again["done"] == []
    scored = call("evaluate", tuned, "--store", store, "--out", tmp_path / "scores", "--json")
    assert scored.code == 0, scored.err
    template = next(small_dataset.glob("*example.txt"))
    written = call("submit", tuned, "--store", store, "--template", template, "--out", tmp_path / "mine.txt")
    assert written.code == 0, written.err
    assert call("submit", "--check", tmp_path / "mine.txt", "--template", template).code == 0
    runs = [shutil.copytree(run, tmp_path / run.name) for run in (base, tuned)]
    for run in runs:
        assert call("evaluate", run, "--store", store).code == 0
    compared = call("report", *runs, "--store", store, "--out", tmp_path / "both.html", "--json")
    assert compared.code == 0, compared.err
    assert (tmp_path / "both.html").is_file()


def test_a_runs_own_recipe_extracts_under_no_name_where_it_has_none(base, small_dataset, small_store, tmp_path):
    """Not only after fine-tuning: a store that any run can be scored on."""
    store = tmp_path / "again.zarr"
    assert call("extract", small_dataset, "--encoders", base, "--store", store, "--limit", "1").code == 0
    facts = json.loads((base / "run.json").read_text())
    info = call("store", "info", store, "--json").json
    assert {name: info["streams"][name]["fingerprint"] for name in ("image", "audio")} == facts["store"]["fingerprints"]


def test_a_change_of_a_runs_recipe_may_name_a_file_of_phrases_and_the_run_may_not(
    base, small_dataset, small_store, tmp_path
):
    store, phrases = shutil.copytree(small_store, tmp_path / "store.zarr"), tmp_path / "phrases.txt"
    texts = [f"somebody of kind {number}" for number in range(9)]
    phrases.write_text("\n".join(texts))
    words = ["extract", small_dataset, "--store", store, "--json", "--encoders"]
    made = call(*words, base, "--set", f"prompts.phrases={phrases}")
    assert made.code == 0, made.err
    assert FeatureStore.open(store).recipe["prompts"]["phrases"] == texts
    run = shutil.copytree(base, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    facts["extraction"]["prompts"] = {"phrases": str(phrases)}
    (run / "run.json").write_text(json.dumps(facts))
    refused = call(*words, run)
    assert refused.code == 2
    assert "prompts.phrases = " in refused.err
    assert "is not allowed" in refused.err


def test_a_recipe_and_a_runs_encoders_exclude_each_other(base, small_dataset, tmp_path):
    outcome = call("extract", small_dataset, "extract/demo.toml", "--encoders", base, "--store", tmp_path / "s.zarr")
    assert outcome.code == 2
    assert "not both" in outcome.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["image.tune=most"], "image.tune = 'most' is not allowed"),
        (["image.block=3"], "the nearest valid one is 'image.blocks'"),
        (["augmentation.crop=0.9"], "augmentation.crop = 0.9 is not allowed"),
        (["image.tune=last", "image.blocks=40"], "image.blocks = 40: the network has 4 blocks"),
    ],
)
def test_a_recipe_that_asks_too_much_is_one_line(base, small_dataset, tmp_path, changes, said):
    given = [part for change in changes for part in ("--set", change)]
    outcome = call("finetune", base, small_dataset, "--run", tmp_path / "new", *given, "--device", "cpu")
    assert outcome.code == 2
    assert said in outcome.fault
    assert not (tmp_path / "new").exists()


def test_media_that_are_not_at_hand_are_one_line(base, small_dataset, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_dataset, data, ignore=shutil.ignore_patterns("*.mp4", "*.avi"))
    outcome = call("finetune", base, data, "--run", tmp_path / "new", "--device", "cpu")
    assert outcome.code == 2
    assert "there is no media file of 5 of the 5 videos that the run needs" in outcome.fault


def test_another_data_set_than_the_stores_is_one_line(base, frames_data, tmp_path):
    outcome = call("finetune", base, frames_data, "--run", tmp_path / "new", "--device", "cpu")
    assert outcome.code == 2
    assert "faces" in outcome.fault
    assert "was made of" in outcome.fault


def test_a_store_that_has_gone_is_one_line(base, small_dataset, tmp_path):
    outcome = call("finetune", base, small_dataset, "--run", tmp_path / "new", "--store", tmp_path / "gone.zarr")
    assert outcome.code == 2
    assert "gone.zarr" in outcome.fault


def test_an_unfinished_run_has_no_encoders_to_extract_with(tuned, small_dataset, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(tuned, half)
    facts = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps(facts | {"status": "training"}))
    outcome = call("extract", small_dataset, "--encoders", half, "--store", tmp_path / "s.zarr")
    assert outcome.code == 2
    assert "is not finished; the command that began it goes on with it" in outcome.fault


def test_encoders_outside_the_runs_folder_are_never_named(tuned, tmp_path):
    """A run that somebody else wrote names weights by `image` or `audio` alone, or not at all."""
    from vaprompt.training.runs import read_facts

    odd = tmp_path / "odd"
    odd.mkdir()
    facts = json.loads((tuned / "run.json").read_text())
    facts["extraction"]["image"]["weights"] = "run:../../etc"
    (odd / "run.json").write_text(json.dumps(facts))
    read = read_facts(odd)["extraction"]
    assert read["image"]["weights"] == "run:../../etc", "taken as a name, and found nowhere"
    assert Path(read["audio"]["weights"]) == odd / "encoders" / "audio"
