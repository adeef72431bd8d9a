"""`vaprompt sweep` as it is called: its table, its JSON, the paper's table, and how far it is while it runs."""

import io
import json
import threading
import time
from unittest.mock import Mock

import pytest

from tests.cli.calling import call
from tests.planted import plant_store
from tests.sweeps.conftest import GRID, described
from vaprompt.cli.board import PlainWatcher, TableWatcher, describe, table
from vaprompt.sweeps.board import Board
from vaprompt.sweeps.variants import read_sweep

SMALL = [
    "epochs=2",
    "window.seconds=4.0",
    "window.stride=1.0",
    "window.frames=6",
    "model.width=16",
    "model.temporal.units=16",
    "model.fusion.feedforward=32",
]
CHANGES = [part for change in SMALL for part in ("--set", change)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("tables") / "store.zarr", train=3, validation=2, seconds=12.0)


def test_a_table_of_the_papers_is_one_command(store, tmp_path):
    done = call("sweep", store, "train/table2.toml", "--runs", tmp_path / "runs", "--device", "cpu", *CHANGES)
    assert done.code == 0, done.err
    shown = " ".join(done.out.split())
    assert "Temporal Fusion V A mean our V our A our mean" in shown
    assert shown.count("0.4655 0.6068 0.5361") == 2
    kept = json.loads((tmp_path / "runs" / "sweep.json").read_text())
    assert [line["variant"] for line in kept["table"]][-1] == "GRU, attention + gated"
    best = kept["table"][-1]["ours"]["paper_subset"]["mean"]
    assert f"{best['mean']:z.4f}" in shown
    assert best["seeds"] == 1
    assert "another data set do not compare" in shown
    assert max(map(len, done.out.splitlines()[:-3])) <= 80


def test_a_sweep_that_fails_in_part_exits_with_3_and_one_that_cannot_be_with_2(store, tmp_path):
    source = described(tmp_path, GRID.replace("epochs = 3", "epochs = 1")).source
    (tmp_path / "runs" / "kl=0-temporal.kind=gru").mkdir(parents=True)
    (tmp_path / "runs" / "kl=0-temporal.kind=gru" / "notes.txt").write_text("mine")
    options = ("--runs", tmp_path / "runs", "--device", "cpu", "--no-score", "--log", "tensorboard")
    done = call("sweep", store, source, *options, "--json")
    assert done.code == 3
    assert done.json["failed"] == ["kl=0-temporal.kind=gru"]
    assert "holds no run" in done.json["variants"][0]["reason"]
    assert done.json["variants"][1]["official"] is None
    assert done.json["variants"][1]["best"]["mean"] is not None
    assert len(list(tmp_path.glob("runs/*/tensorboard/events.out.tfevents.*"))) == 3
    assert call("sweep", store, source, *options, "--set", "loss.k=1").code == 2
    refused = call("sweep", store, source, *options, "--set", "stream=nobody")
    assert refused.code == 2
    assert "has no stream 'nobody'" in refused.fault


def test_who_watches_is_told_epochs_scores_and_the_time_left(tmp_path):
    sweep = described(tmp_path, GRID)
    now = [100.0]
    board = Board(sweep.variants, clock=lambda: now[0])
    first, second, third, fourth = sweep.variants
    first.run.mkdir(parents=True)
    line = {"epoch": 1, "train": {}, "validation": {"valence": 0.4, "arousal": 0.2, "mean": 0.3}}
    board.begin(first)
    (first.run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    now[0] = 110.0
    board.end(second, "failed", "no luck")
    board.end(third, "done")
    rows = board.rows()
    assert [row.state for row in rows] == ["training", "failed", "done", "waiting"]
    assert (rows[0].epoch, rows[0].mean, rows[0].best, rows[0].left) == (1, 0.3, 0.3, 20.0)
    assert describe(rows[0]) == f"{first.label}: epoch 1/3, CCC 0.300, 20 s left"
    assert describe(rows[1]) == f"{second.label}: failed: no luck"
    # Half-written lines, as when another machine writes, cost a look and nothing else.
    (first.run / "metrics.jsonl").write_text("{")
    assert board.rows()[0].epoch == 0
    assert fourth.label in _drawn(board, 40)
    assert "and 1 done" in _drawn(board, 3)


def test_of_a_search_is_told_how_many_trials_there_will_be(tmp_path):
    first, second, *_ = described(tmp_path, GRID).variants
    board = Board(trials=9)
    board.end(first, "done")
    board.begin(second)
    log = io.StringIO()
    PlainWatcher(log, every=0.0)._watch(board, Mock(spec=threading.Event, wait=Mock(side_effect=[False, False, True])))
    assert f"1/9 done; {second.label}: epoch 0/3" in log.getvalue()
    assert "and 7 waiting" in _drawn(board, 40)


def _drawn(board, most):
    from rich.console import Console

    console = Console(width=80, file=io.StringIO())
    console.print(table(board.rows(), most, sum(board.counts().values())))
    return console.file.getvalue()


def test_the_watchers_show_what_happens(tmp_path):
    board = Board(described(tmp_path, GRID).variants)
    variants = read_sweep(tmp_path / "sweep.toml", tmp_path / "runs").variants

    def work():
        board.begin(variants[0])
        time.sleep(0.05)
        board.end(variants[0], "done")

    log = io.StringIO()
    with PlainWatcher(log, every=0.01).watching(board):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert f"{variants[0].label}: 0 epochs, best validation CCC -" in log.getvalue()
    again = io.StringIO()
    with PlainWatcher(again).watching(board):
        pass
    assert again.getvalue() == "1 variants were done before\n"
    from rich.console import Console

    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80, height=24)
    with TableWatcher(console).watching(board):
        pass
    for name in ("variant", "epoch", "CCC", "best", "left", variants[3].label, "done"):
        assert name in terminal.getvalue()
