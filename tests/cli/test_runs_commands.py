"""`vaprompt runs`: as a table, JSON and CSV; the word `list` may be left out."""

import csv
import io
import json
import os
import shutil

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


def test_options_may_come_before_the_folder_and_a_filter_has_two_names(runs):
    shown = call("runs", "--filter", "name=strong", "--csv", runs)
    assert shown.code == 0, shown.err
    assert [row["name"] for row in csv.DictReader(io.StringIO(shown.out))] == ["strong"]
    assert shown.out == call("runs", "list", runs, "--csv", "--where", "name=strong").out
    assert "diff" in call("runs", "--help").out


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


def test_the_best_is_behind_nobody_whatever_the_names(runs, tmp_path):
    for folder in ("a", "b"):
        shutil.copytree(runs, tmp_path / folder)
    told = call("runs", "list", tmp_path / "a", tmp_path / "b", "--json").json["runs"]
    assert [line["name"] for line in told].count("a/strong") == 1
    assert len({line["name"] for line in told}) == len(told)
    assert [line["behind_best"] is None for line in told] == [True] + [False] * (len(told) - 1)
    shown = call("runs", "list", tmp_path / "a", tmp_path / "b").out
    assert "a/strong" in shown
    assert "b/strong" in shown
    assert "b/strong" in call("runs", "list", tmp_path / "a", tmp_path / "b", "--csv").out


def test_a_run_that_cannot_be_read_is_told_and_the_rest_shown(runs, tmp_path):
    shutil.copytree(runs / "strong", tmp_path / "strong")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"format": 1}')
    shown = call("runs", tmp_path)
    assert shown.code == 3
    assert "strong" in shown.out
    assert "lacks 'status'" in " ".join(shown.out.split())
    shown = call("runs", tmp_path, "--csv")
    assert shown.code == 3
    assert [row["name"] for row in csv.DictReader(io.StringIO(shown.out))] == ["strong"]
    assert "lacks 'status'" in shown.err
    shown = call("runs", tmp_path / "broken")
    assert shown.code == 2
    assert "lacks 'status'" in shown.fault


def test_names_cannot_steer_the_terminal_nor_end_the_command(runs, tmp_path):
    for name in (b"red\x1b[31m", b"two\nlines", b"no text \xff"):
        shutil.copytree(runs / "strong", tmp_path / os.fsdecode(name))
    shown = call("runs", tmp_path)
    assert shown.code == 0, shown.err
    shown.out.encode()
    assert "\x1b" not in shown.out + shown.err
    for name in (r"red\x1b[31m", r"two\nlines", r"no text \udcff"):
        assert name in shown.out
    assert r"red\x1b[31m: is not a run" in call("runs", "diff", runs / "red\x1b[31m", runs / "strong").fault
    listed = call("runs", tmp_path, "--json")
    listed.out.encode()
    assert {line["name"] for line in listed.json["runs"]} == {path.name for path in tmp_path.iterdir()}
    as_csv = call("runs", tmp_path, "--csv").out
    as_csv.encode()
    assert r"no text \udcff" in as_csv
    facts = json.loads((runs / "strong" / "run.json").read_text())
    facts["store"]["dataset"]["name"] = "\x1b]0;title\x07"
    (tmp_path / "two\nlines" / "run.json").write_text(json.dumps(facts))
    assert "\x1b" not in call("runs", "diff", tmp_path / "two\nlines", runs / "strong").out


def test_the_folder_where_one_is_has_a_name(runs, monkeypatch):
    monkeypatch.chdir(runs / "strong")
    assert call("runs", ".", "--json").json["runs"][0]["name"] == "strong"
