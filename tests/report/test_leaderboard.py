"""A leaderboard of runs: which it finds, how they rank, what differs, and whether that is more than chance."""

import json
import shutil
from pathlib import Path

import pytest

from tests.planted import plant_store
from tests.training.test_run import recipe
from vaprompt.errors import RunError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.paired import paired_difference
from vaprompt.evaluation.protocols import official_series
from vaprompt.report.evidence import gather
from vaprompt.report.leaderboard import find_runs, leaderboard, runs_apart
from vaprompt.report.selecting import ConditionError
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


def test_each_line_is_compared_with_the_best_over_videos_and_seeds(runs):
    (behind,) = leaderboard([runs], where=["state=scored"]).behind
    assert behind.name == "short"
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
