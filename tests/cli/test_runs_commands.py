"""`vaprompt runs`: as a table, JSON and CSV; the word `list` may be left out."""

import csv
import io

import pytest

from tests.cli.calling import call
from tests.report.runs import make_run, planted


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranked")
    store = planted(folder, train=3, validation=2, seconds=14.0)
    make_run(store, folder / "runs" / "plain-seed0")
    make_run(store, folder / "runs" / "plain-seed1", seed=1)
    make_run(store, folder / "runs" / "strong", loss={"kl": 2.0})
    return folder / "runs"


def test_a_folder_alone_is_listed(runs):
    shown = call("runs", runs)
    assert shown.code == 0, shown.err
    assert shown.out == call("runs", "list", runs).out
    for part in ("plain", "2 seeds", "±", "What differs", "loss.kl", "more than chance?", "store.zarr"):
        assert part in shown.out
    assert max(map(len, shown.out.splitlines()[:-1])) <= 80


def test_json_and_csv_say_the_same(runs):
    shown = call("runs", runs, "--json")
    lines = shown.json["runs"]
    assert {line["name"] for line in lines} == {"plain", "strong"}
    (plain,) = [line for line in lines if line["name"] == "plain"]
    assert plain["seeds"] == [0, 1]
    assert plain["differs"] == {"loss.kl": 0.2}
    assert lines[0]["behind_best"] is None
    assert lines[1]["behind_best"]["mean"]["difference"] >= 0
    table = list(csv.DictReader(io.StringIO(call("runs", runs, "--csv").out)))
    assert [row["name"] for row in table] == [line["name"] for line in lines]
    assert [float(row["mean"]) for row in table] == [line["official"]["mean"]["mean"] for line in lines]
    assert {row["loss.kl"] for row in table} == {"0.2", "2.0"}
    assert call("runs", runs, "--csv", "--json").code == 2


def test_two_runs_are_told_apart(runs):
    shown = call("runs", "diff", runs / "plain-seed0", runs / "strong")
    assert shown.code == 0
    assert "loss.kl" in shown.out
    assert "B less A" in shown.out
    found = call("runs", "diff", runs / "plain-seed0", runs / "strong", "--json").json
    assert found["fields"] == {"loss.kl": [0.2, 2.0]}
    assert call("runs", "diff", runs / "plain-seed0", runs).fault.count("is not a run")


def test_a_folder_without_runs_is_one_line(tmp_path):
    shown = call("runs", tmp_path)
    assert shown.code == 2
    assert "holds no run" in shown.fault
