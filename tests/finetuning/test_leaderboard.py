"""Fine-tunings on a leaderboard: seeds of one are one line, and of two it is told in what they differ."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.finetuning.conftest import recipe
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.finetuning.finetune import finetune
from vaprompt.report.evidence import differing_fields, gather
from vaprompt.report.leaderboard import leaderboard, runs_apart

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tuned: Path, base: Path, small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two seeds of one fine-tuning, one of another, and the run that they start from."""
    folder = tmp_path_factory.mktemp("board")
    shutil.copytree(base, folder / "base")
    shutil.copytree(tuned, folder / "whole-seed0")
    for name, changes in {
        "whole-seed1": {"seed": 1},
        "norms": {"image": {"tune": "norms"}, "augmentation": {"flip": 0.5}, "epochs": 1},
    }.items():
        with torch.random.fork_rng():
            finetune(base, small_dataset, recipe(**changes), folder / name, device="cpu")
    return folder


def test_seeds_are_one_line_of_mean_and_spread(runs):
    lines = {line.name: line for line in leaderboard([runs], compare=False).lines}
    assert {name: line.seeds for name, line in lines.items()} == {"base": [0], "whole": [0, 1], "norms": [0]}
    spread = lines["whole"].spread("mean")
    assert spread["seeds"] == 2
    assert spread["deviation"] > 0


def test_recipes_differ_in_what_was_trained_how_and_in_no_name(runs):
    found = leaderboard([runs], where=["name!=base"], sort="name", compare=False)
    assert [line.name for line in found.lines] == ["norms", "whole"]
    assert found.fields == {
        "epochs": [1, 2],
        "finetune.augmentation.flip": [0.5, 0.0],
        "finetune.image.tune": ["norms", "all"],
    }
    apart = runs_apart(runs / "whole-seed0", runs / "whole-seed1")
    assert apart.fields == {"seed": [0, 1]}
    assert runs_apart(runs / "norms", runs / "whole-seed1").fields == found.fields | {"seed": [0, 1]}


def test_a_fine_tuning_and_what_it_starts_from_differ_in_encoders_and_rates(runs):
    fields = runs_apart(runs / "base", runs / "whole-seed0").fields
    assert fields["finetune.image.tune"] == fields["finetune.audio.tune"] == ["none", "all"]
    assert fields["finetune.optimiser.encoder_learning_rate"] == ["nothing", 1e-4]
    assert {field for field in fields if field.startswith("finetune.")} == {
        "finetune.image.tune",
        "finetune.audio.tune",
        "finetune.precision",
        "finetune.optimiser.encoder_learning_rate",
    }, "no augmentation there and none here"
    assert fields["optimiser.learning_rate"] == [2e-3, 1e-4]
    assert fields["parent"][0] is None
    assert fields["parent"][1].startswith("base (")
    assert not [field for field in fields if field.startswith("features")]
    assert "stream" not in fields


def test_fields_of_the_recipe_choose_and_order(runs):
    def names(**options):
        return [line.name for line in leaderboard([runs], compare=False, **options).lines]

    assert names(where=["finetune.image.tune=norms"]) == ["norms"]
    assert set(names(where=["finetune.optimiser.encoder_learning_rate=1e-4"])) == {"whole", "norms"}
    assert names(where=["finetune.checkpointing=true", "finetune.seed=1"]) == ["whole-seed1"]
    assert names(sort="finetune.image.tune") == ["whole", "base", "norms"]


def test_what_changes_memory_alone_makes_no_other_variant(runs, tmp_path):
    for name in ("whole-seed0", "whole-seed1"):
        shutil.copytree(runs / name, tmp_path / name)
    facts = json.loads((tmp_path / "whole-seed1" / "run.json").read_text())
    facts["finetune"] |= {"at_once": 2, "checkpointing": False}
    (tmp_path / "whole-seed1" / "run.json").write_text(json.dumps(facts))
    assert [line.seeds for line in leaderboard([tmp_path], compare=False).lines] == [[0, 1]]


def test_another_start_is_another_variant(runs, tmp_path):
    """Also where it lay in the same place, as a run that was trained again."""
    for name in ("whole-seed0", "whole-seed1"):
        shutil.copytree(runs / name, tmp_path / name)
    facts = json.loads((tmp_path / "whole-seed1" / "run.json").read_text())
    facts["parent"]["checkpoint"] = f"sha256:{'0' * 64}"
    (tmp_path / "whole-seed1" / "run.json").write_text(json.dumps(facts))
    found = leaderboard([tmp_path], sort="name", compare=False)
    assert [line.seeds for line in found.lines] == [[0], [1]]
    assert found.fields["parent"][1] == "base (00000000)"
    assert list(found.fields) == ["parent"]


def test_a_page_of_several_runs_tells_it_too(runs, small_store, tuned_store):
    for name, store in (("base", small_store), ("whole-seed0", tuned_store)):
        evaluate(runs / name, store=store, device="cpu")
    fields = differing_fields([gather(runs / name) for name in ("base", "whole-seed0")])
    assert fields["finetune.image.tune"] == ["none", "all"]
