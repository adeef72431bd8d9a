"""A leaderboard of runs: which it finds, how they rank, what differs, and whether that is more than chance."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.structure import changed
from tests.planted import plant_store
from tests.training.small import recipe
from vaprompt.cli.tell_runs import leaderboard_json, print_apart, print_leaderboard, print_leaderboard_csv
from vaprompt.errors import RunError, VapromptError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.paired import paired_difference
from vaprompt.evaluation.protocols import official_series
from vaprompt.report.evidence import gather
from vaprompt.report.leaderboard import find_runs, leaderboard, runs_apart
from vaprompt.report.selecting import ConditionError
from vaprompt.training.ongoing import PrunedError
from vaprompt.training.run import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: two seeds of one variant, one of another, one that is not scored, and damaged ones."""
    root = tmp_path_factory.mktemp("board")
    store = plant_store(root / "store.zarr", train=4, validation=3, seconds=16.0)
    folder = root / "runs"
    for name, changes in {
        "long-seed0": {"epochs": 4},
        "long-seed1": {"epochs": 4, "seed": 1},
        "short": {"epochs": 1, "loss": {"kl": 0.5}},
        "deep/unscored": {"epochs": 1, "loss": {"kl": 0.0}},
    }.items():
        train(store, recipe(**changes), folder / name, device="cpu")
        if name != "deep/unscored":
            evaluate(folder / name, device="cpu")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.json").write_text("{")
    (folder / "empty").mkdir()
    shutil.copytree(folder / "short", folder / "stopped")
    facts = json.loads((folder / "stopped" / "run.json").read_text())
    facts["recipe"]["batch"] = 32
    (folder / "stopped" / "run.json").write_text(json.dumps(facts | {"status": "training"}))
    return folder


def test_it_finds_every_run_and_ranks_by_score_with_the_seeds_of_a_variant_as_one(runs):
    assert [run.name for run in find_runs(runs)] == [
        "damaged",
        "unscored",
        "long-seed0",
        "long-seed1",
        "short",
        "stopped",
    ]
    found = leaderboard([runs])
    assert [line.name for line in found.lines] == ["long", "short", "deep/unscored", "stopped"]
    best = found.lines[0]
    scores = [evaluate(runs / name, device="cpu").result["official"]["mean"] for name in ("long-seed0", "long-seed1")]
    assert best.spread("mean")["mean"] == pytest.approx(sum(scores) / 2)
    assert best.spread("mean")["deviation"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert best.seeds == [0, 1]
    assert best.interval is None
    assert found.lines[1].interval[0] < found.lines[1].spread("mean")["mean"] < found.lines[1].interval[1]
    assert [line.state for line in found.lines] == ["scored", "scored", "trained", "unfinished"]
    assert any("damaged" in note for note in found.notes)
    assert any("1 runs are not evaluated, such as deep/unscored" in note for note in found.notes)


def test_only_what_differs_is_told(runs):
    fields = leaderboard([runs], where=["state=scored"], compare=False).fields
    assert fields == {"epochs": [4, 1], "loss.kl": [0.2, 0.5]}
    fields = leaderboard([runs], where=["state!=unfinished"], compare=False).fields
    assert fields == {"epochs": [4, 1, 1], "loss.kl": [0.2, 0.5, 0.0]}, "its state says that one was not scored"


def test_a_modality_that_a_run_does_not_use_differs_in_that_alone(runs, tmp_path, capsys):
    shutil.copytree(runs / "short", tmp_path / "both")
    shutil.copytree(runs / "short", tmp_path / "seeing")
    facts = json.loads((runs / "short" / "run.json").read_text())
    facts["recipe"]["model"]["modalities"] = ["image"]
    del facts["store"]["fingerprints"]["audio"], facts["store"]["sources"]["audio"]
    facts["store"]["fingerprints"]["image"]["weights"] = f"sha256:{'0123456789abcdef' * 4}"
    (tmp_path / "seeing" / "run.json").write_text(json.dumps(facts))
    found = leaderboard([tmp_path], compare=False)
    assert [*found.fields] == ["features.image.weights", "model.modalities"]
    print_leaderboard(found)
    told = capsys.readouterr().out
    assert "sha256:0123456789ab" in told
    assert "sha256:0123456789abc" not in told, "what people read is no longer than `store info` has it"


def test_a_difference_that_is_shown_as_none_is_told_apart(runs, capsys):
    contrast = {"difference": 1e-8, "interval": [1e-9, 1e-7], "above": 1.0}
    both = runs_apart(runs / "short", runs / "long-seed0")
    axes = {
        "valence": contrast,
        "arousal": {**contrast, "interval": [-1e-9, 1e-7]},
        "mean": {**contrast, "difference": 0.1},
    }
    print_apart(replace(both, contrasts={**both.contrasts, **axes}))
    verdicts = [
        line.split(" to ")[1].split(maxsplit=1)[1].strip()
        for line in capsys.readouterr().out.splitlines()
        if " to " in line
    ]
    assert verdicts == ["yes, by < 0.001", "no", "yes"]


def test_each_line_is_compared_with_the_best_over_videos_and_seeds(runs):
    (behind,) = leaderboard([runs], where=["state=scored"]).behind
    assert behind.line.name == "short"
    assert behind.contrasts["mean"]["difference"] > 0
    alone = leaderboard([runs / "long-seed0", runs / "short"])
    assert [line.name for line in alone.lines] == ["long-seed0", "short"]
    first, second = (official_series(gather(runs / name).evaluation.videos) for name in ("short", "long-seed0"))
    assert alone.behind[0].contrasts == paired_difference(first, second)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (["loss.kl<=0.2"], ["long", "deep/unscored"]),
        (["loss.kl>0.2", "state!=unfinished"], ["short"]),
        (["name=long*"], ["long"]),
        (["seed=1"], ["long-seed1"]),
        (["model.temporal.kind=gru", "epochs!=1"], ["long", "stopped"]),
        (["mean>-2", "state=scored"], ["long", "short"]),
        (["scored.split=validation", "features.image.encoder=planted"], ["long", "short"]),
        (["model.modalities=image audio", "model.modalities=*audio", "seed=1"], ["long-seed1"]),
        (["regions.valence=[-0.66, 0.0, 0.66]", "seed=1"], ["long-seed1"]),
        (["scored.split=nothing", "state=trained"], ["deep/unscored"]),
        (["scored.split!=nothing", "seed=1"], ["long-seed1"]),
    ],
)
def test_conditions_choose_runs(runs, where, names):
    # A run that is not finished has no epochs yet.
    chosen = [line.name for line in leaderboard([runs], where=where, compare=False).lines]
    assert chosen == ([*names] if where[-1] != "epochs!=1" else ["long"])


def test_any_field_orders_them(runs):
    def order(sort):
        return [line.name for line in leaderboard([runs], sort=sort, compare=False).lines]

    assert order("name") == ["deep/unscored", "long", "short", "stopped"]
    assert order("loss.kl")[0] == "deep/unscored"
    assert order("batch")[-1] == "stopped"
    assert order("scored.split")[:2] == ["long", "short"], "what has none comes last"
    epochs = [line.epochs for line in leaderboard([runs], sort="epochs", compare=False).lines]
    assert epochs == [1, 1, 1, 4]


def test_a_run_trained_twice_is_no_second_seed(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(runs / "short", tmp_path / name)
    assert [line.seeds for line in leaderboard([tmp_path]).lines] == [[0], [0]]


def test_what_cannot_be_asked_is_said(runs, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        leaderboard([tmp_path])
    with pytest.raises(ConditionError, match=r"no run has a field 'loss.k'; the nearest one is 'loss.kl'"):
        leaderboard([runs], where=["loss.k=1"])
    with pytest.raises(ConditionError, match="is no condition"):
        leaderboard([runs], where=["loss.kl"])
    with pytest.raises(RunError, match="holds no run: there is no such folder"):
        leaderboard([tmp_path / "runs"])
    with pytest.raises(ConditionError, match=r"no run has a field 'xyz'; they have .*valence, .*loss\.kl"):
        leaderboard([runs], sort="xyz")
    with pytest.raises(ConditionError, match="the nearest one is 'arousal'"):
        leaderboard([runs], sort="arousel")
    with pytest.raises(RunError, match=r"no run of 5 meets loss\.kl>9"):
        leaderboard([runs], where=["loss.kl>9"])


def test_two_runs_apart(runs):
    found = runs_apart(runs / "short", runs / "long-seed1")
    assert found.fields == {"epochs": [1, 4], "loss.kl": [0.5, 0.2], "seed": [0, 1]}
    assert found.contrasts["mean"]["difference"] == pytest.approx(
        found.second.scores["mean"] - found.first.scores["mean"], abs=1e-9
    )
    gaps = [abs(other - one) for _, one, other in found.videos]
    assert len(gaps) == 3
    assert gaps == sorted(gaps, reverse=True)
    unscored = runs_apart(runs / "short", runs / "deep" / "unscored")
    assert unscored.contrasts is None
    assert "is not evaluated" in unscored.reason
    with pytest.raises(RunError, match="is not a run"):
        runs_apart(runs / "short", runs / "empty")


def rewritten(run: Path, **changes) -> None:
    """Change what a run's folder says of it."""
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | changes))


def test_runs_of_one_name_below_several_folders_are_told_apart(runs, tmp_path):
    for folder in ("a", "b"):
        for name in ("long-seed0", "short"):
            shutil.copytree(runs / name, tmp_path / folder / name)
    rewritten(tmp_path / "b" / "long-seed0", store={**facts_of(runs / "short")["store"], "dataset": {"name": "other"}})
    found = leaderboard([tmp_path / "a", tmp_path / "b"])
    assert sorted(line.name for line in found.lines) == ["a/long-seed0", "a/short", "b/long-seed0", "b/short"]
    told = leaderboard_json(found)["runs"]
    assert [line["behind_best"] is None for line in told] == [True, False, False, False]
    best = told[0]["official"]["mean"]["mean"]
    for line in told[1:]:
        assert line["behind_best"]["mean"]["difference"] == pytest.approx(best - line["official"]["mean"]["mean"])
    only = leaderboard([tmp_path / "a", tmp_path / "b"], where=["name=short"], compare=False)
    assert [line.name for line in only.lines] == ["a/short", "b/short"], "conditions are on the names below each folder"


def facts_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_a_run_below_two_of_the_folders_is_listed_once(runs):
    found = leaderboard([runs, runs / "short", runs / "deep" / ".." / "deep"], compare=False)
    assert [line.name for line in found.lines] == ["long", "short", "deep/unscored", "stopped"]


def test_two_lines_do_not_get_one_name(runs, tmp_path):
    for name, batch in (("long-seed0", 6), ("long-seed1", 6), ("long-seed2", 7), ("long-seed3", 7), ("long", 8)):
        shutil.copytree(runs / "long-seed0", tmp_path / name)
        recipe = facts_of(runs / "long-seed0")["recipe"]
        rewritten(tmp_path / name, recipe=recipe | {"batch": batch, "seed": int(name[-1]) if name[-1] != "g" else 0})
    names = {line.name: line.seeds for line in leaderboard([tmp_path], compare=False).lines}
    assert names == {"long-seed0": [0, 1], "long-seed2": [2, 3], "long": [0]}


def test_folders_of_seeds_are_named_by_the_folder_above(runs, tmp_path):
    for name in ("seed0", "seed1"):
        shutil.copytree(runs / f"long-{name}", tmp_path / "long" / name)
    assert [line.name for line in leaderboard([tmp_path], compare=False).lines] == ["long"]


def test_runs_on_other_videos_are_no_seeds_of_one_variant(runs, tmp_path):
    """Nor are scores on other videos: their mean would be of nothing."""
    for name in ("long-seed0", "long-seed1"):
        shutil.copytree(runs / name, tmp_path / "a" / name)
        shutil.copytree(runs / name, tmp_path / "b" / name)
    videos = facts_of(runs / "long-seed1")["videos"]
    rewritten(tmp_path / "a" / "long-seed1", videos=videos | {"train": videos["train"][:3]})
    found = leaderboard([tmp_path / "a"], compare=False)
    assert [line.seeds for line in found.lines] in ([[0], [1]], [[1], [0]])
    assert {str(value).split()[0] for value in found.fields["videos.train"]} == {"3", "4"}
    path = tmp_path / "b" / "long-seed1" / "evaluation.json"
    result = json.loads(path.read_text())
    result["videos"].popitem()
    path.write_text(json.dumps(result))
    found = leaderboard([tmp_path / "b"], compare=False)
    assert len(found.lines) == 2
    assert list(found.fields) == ["scored.videos"]
    assert found.notes == ["not all runs are scored on the same videos: their order says little"]


def test_runs_on_labels_that_were_corrected_meanwhile_are_no_seeds_of_one_variant(runs, tmp_path):
    for name in ("long-seed0", "long-seed1"):
        shutil.copytree(runs / name, tmp_path / name)
    of_store = facts_of(runs / "long-seed1")["store"]
    corrected = {**of_store["sources"], "labels": f"sha256:{'0123456789abcdef' * 4}"}
    rewritten(tmp_path / "long-seed1", store={**of_store, "sources": corrected})
    found = leaderboard([tmp_path], compare=False)
    assert [line.seeds for line in found.lines] in ([[0], [1]], [[1], [0]])
    assert sorted(found.fields) == ["sources.labels"]
    assert "01234567" in found.fields["sources.labels"]


def test_a_name_that_is_a_number_can_be_asked_for(runs, tmp_path):
    for name in ("7", "8"):
        shutil.copytree(runs / "short", tmp_path / name)
    assert [line.name for line in leaderboard([tmp_path], where=["name=7"], compare=False).lines] == ["7"]
    assert [line.name for line in leaderboard([tmp_path], where=["name!=7"], compare=False).lines] == ["8"]


@pytest.mark.parametrize("name", ["long", "short"])
def test_predictions_that_are_gone_are_said_and_the_board_is_there(runs, tmp_path, name):
    shutil.copytree(runs / "long-seed0", tmp_path / "long")
    shutil.copytree(runs / "short", tmp_path / "short")
    (tmp_path / name / "predictions.safetensors").unlink()
    found = leaderboard([tmp_path])
    assert [line.name for line in found.lines] == ["long", "short"]
    (behind,) = found.behind
    assert behind.contrasts is None
    assert str(tmp_path / name) in behind.reason
    assert leaderboard_json(found)["runs"][1]["not_compared"] == behind.reason
    assert str(tmp_path / name) in runs_apart(tmp_path / "short", tmp_path / "long").reason


def test_an_unfinished_run_is_not_asked_to_be_evaluated(runs):
    reason = runs_apart(runs / "short", runs / "stopped").reason
    assert reason.endswith("stopped is not finished")


def test_a_run_that_a_search_has_stopped_early_is_told_from_one_that_is_not_finished(runs, tmp_path, capsys):
    def watch(run, history):
        raise PrunedError(run, fault="is behind", remedy="nothing is to be done")

    store = json.loads((runs / "short" / "run.json").read_text())["store"]["path"]
    with pytest.raises(PrunedError):
        train(store, recipe(), tmp_path / "pruned", device="cpu", watch=watch)
    shutil.copytree(runs / "stopped", tmp_path / "stopped")
    found = leaderboard([tmp_path])
    assert [(line.name, line.state) for line in found.lines] == [("stopped", "unfinished"), ("pruned", "pruned")]
    print_leaderboard(found)
    assert ["pruned", *"---", "pruned", "-"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line.name for line in leaderboard([tmp_path], where=["state=pruned"]).lines] == ["pruned"]
    assert runs_apart(tmp_path / "stopped", tmp_path / "pruned").reason.endswith("stopped is not finished")
    assert runs_apart(runs / "short", tmp_path / "pruned").reason.endswith("was stopped early by its search")
    with pytest.raises(RunError, match="was stopped early by its search"):
        evaluate(tmp_path / "pruned", device="cpu")


def test_a_fold_is_not_asked_to_be_evaluated_either(runs, tmp_path):
    fold = shutil.copytree(runs / "short", tmp_path / "fold1")
    facts = json.loads((fold / "run.json").read_text())
    facts["videos"]["stopping"] = facts["videos"].pop("validation")
    (fold / "run.json").write_text(json.dumps(facts))
    (fold / "evaluation.json").unlink()
    reason = runs_apart(fold, runs / "short").reason
    assert "crossvalidation.json" in reason
    assert "vaprompt evaluate" not in reason


def test_runs_none_of_which_can_be_read_are_an_error(runs, tmp_path):
    with pytest.raises(RunError, match=r"damaged/run\.json: cannot be read"):
        leaderboard([runs / "damaged"])
    assert leaderboard([runs], compare=False).lacking
    assert not leaderboard([runs / "short"], compare=False).lacking


def test_whatever_files_say_is_shown_or_left_out_with_a_reason(runs, tmp_path, capsys):
    """Files may be changed by hand, or be somebody else's."""
    rng = np.random.default_rng(8)
    whole = runs / "short"
    contents = {name: json.loads((whole / name).read_text()) for name in ("run.json", "evaluation.json")}
    contents["run.json"] |= {
        "finetune": {"image": {"tune": "all", "blocks": 4}, "optimiser": {"encoder_learning_rate": 3e-6}},
        "parent": {"run": "runs/first", "checkpoint": "sha256:0123456789", "fingerprints": {"image": {"dim": 24}}},
    }
    for number in range(200):
        run = tmp_path / f"{number:03d}"
        run.mkdir()
        damaged = ("run.json", "evaluation.json")[number % 2]
        for name, content in contents.items():
            (run / name).write_text(json.dumps(changed(content, rng) if name == damaged else content))
    found = leaderboard([tmp_path], compare=False)
    assert len(found.notes) > 25
    assert sum(len(line.entries) for line in found.lines) > 50
    leaderboard([tmp_path], compare=False, sort="videos.train", where=["seconds>=0", "loss.kl>0", "name=*"])
    print_leaderboard(found)
    print_leaderboard_csv(found)
    json.dumps(leaderboard_json(found), default=str)
    capsys.readouterr().out.encode()
    for run in sorted(tmp_path.iterdir())[:40]:
        with contextlib.suppress(VapromptError):
            runs_apart(whole, run)
