"""The main job through the command line: each command's result, and the demo from nothing to predictions."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.calling import Call, call, call_process
from tests.media.clips import write_clip
from vaprompt.training.checkpoint import save_state

TINY = ("--videos", "4", "--seconds", "14", "--epochs", "2")


@pytest.fixture(scope="module")
def first_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Call]:
    """Return a small demo's folder, and what the command did."""
    target = tmp_path_factory.mktemp("demo") / "demo"
    return target, call_process("demo", target, *TINY, "--json")


def rows_of(path: Path) -> np.ndarray:
    with path.open(newline="") as text:
        header, *rows = csv.reader(text)
    assert header == ["frame", "time", "valence", "arousal"]
    return np.array(rows, dtype=np.float64)


def states(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_demo_ends_with_scores_and_predictions(first_demo: tuple[Path, Call]):
    target, outcome = first_demo
    assert outcome.code == 0
    result = outcome.json
    assert sorted(path.name for path in target.iterdir()) == [
        "data",
        "predictions",
        "report.html",
        "run",
        "store.log.jsonl",
        "store.zarr",
    ]
    evaluation = json.loads((target / "run" / "evaluation.json").read_text())
    assert result["evaluation"] == evaluation
    assert set(evaluation["official"]) == {"valence", "arousal", "mean", "frames"}
    assert evaluation["official"]["frames"] > evaluation["paper_subset"]["frames"] > 0
    assert set(evaluation["ridge"]) == {"official", "paper_subset"}
    assert len(evaluation["videos"]) == len(result["evaluation"]["videos"]) > 0
    for predicted in result["predictions"]:
        rows = rows_of(Path(predicted))
        assert rows[:, 0].tolist() == list(range(1, len(rows) + 1))
        assert (np.diff(rows[:, 1]) > 0).all()
        assert (np.abs(rows[:, 2:]) <= 1).all()
    assert len(result["predictions"]) == 2
    assert "</html>" in Path(result["report"]).read_text()
    for plot in result["plots"]:
        with Image.open(plot) as picture:
            picture.verify()


def test_wherever_scores_are_shown_it_says_that_the_encoders_know_drawn_faces_only(first_demo: tuple[Path, Call]):
    target, _ = first_demo
    shown = call("evaluate", target / "run")
    assert shown.code == 0
    assert "drawn faces" in shown.out
    assert "ridge regression" in shown.out
    assert max(len(line) for line in shown.out.splitlines() if "model" in line or "ridge" in line) <= 80


def test_a_second_demo_makes_nothing_again(first_demo: tuple[Path, Call]):
    target, first = first_demo
    stage_one, stage_two = states(target / "store.zarr"), states(target / "run")
    again = call("demo", target, *TINY)
    assert again.code == 0
    assert states(target / "store.zarr") == stage_one
    assert "0 videos encoded" in again.out
    assert "run was complete before" in again.out
    kept = states(target / "run")
    for name in ("checkpoint.safetensors", "metrics.jsonl", "recipe.toml", "run.json"):
        assert kept[name] == stage_two[name]
    for path in (target / "data", target / "store.zarr", target / "run", target / "predictions"):
        assert str(path) in again.out
    assert max(len(line) for line in again.out.splitlines() if str(target) not in line and "note:" not in line) <= 80
    assert (
        first.json["evaluation"]["official"] == json.loads((target / "run" / "evaluation.json").read_text())["official"]
    )


@pytest.mark.slow
def test_a_demo_that_was_stopped_while_training_ends_like_the_undisturbed_one(
    first_demo: tuple[Path, Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target, _ = first_demo
    stopped = tmp_path / "demo"
    shutil.copytree(target / "data", stopped / "data")
    shutil.copytree(target / "store.zarr", stopped / "store.zarr")

    def save_and_stop(*arguments: Any) -> None:
        save_state(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("vaprompt.training.ongoing.SAVING", 0)
        patched.setattr("vaprompt.training.ongoing.save_state", save_and_stop)
        assert call("demo", stopped, *TINY).code == 130
    assert len((stopped / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert call("demo", stopped, *TINY).code == 0
    for name in ("checkpoint.safetensors", "metrics.jsonl"):
        assert (stopped / "run" / name).read_bytes() == (target / "run" / name).read_bytes()


def test_a_demo_of_another_size_is_refused_where_one_is(first_demo: tuple[Path, Call]):
    target, _ = first_demo
    before = states(target)
    outcome = call("demo", target, "--videos", "5", "--seconds", "14")
    assert outcome.code == 2
    assert str(target / "data") in outcome.fault
    assert states(target) == before


def test_store_info_tells_what_is_in_a_store_and_what_made_it(small_store: Path):
    shown = call("store", "info", small_store)
    assert shown.code == 0
    for text in ("train", "validation", "test", "image", "audio", "embedded", str(small_store)):
        assert text in shown.out
    told = call("store", "info", small_store, "--json").json
    assert told["splits"]["train"]["frames"] >= told["splits"]["train"]["valid"] > 0


def test_extracting_again_encodes_nothing(small_dataset: Path, small_store: Path):
    again = call("extract", small_dataset, "extract/demo.toml", "--store", small_store, "--json")
    assert again.code == 0
    assert again.json["done"] == []
    assert len(again.json["skipped"]) == 6


def test_limit_takes_the_first_videos_only(small_dataset: Path, tmp_path: Path):
    arguments = ("extract", small_dataset, "extract/demo.toml", "--store", tmp_path / "a.zarr", "--json")
    assert len(call(*arguments, "--limit", "1", "--set", "image_rate=1").json["done"]) == 1


def test_training_tells_its_scores_and_leaves_a_complete_run_alone(small_run: Path, small_store: Path):
    before = states(small_run)
    again = call("train", small_store, "train/demo.toml", "--run", small_run, "--set", "epochs=2", "--json")
    assert again.code == 0
    assert again.json["trained"] is False
    assert set(again.json) >= {"run", "epochs", "best_epoch", "valence", "arousal", "mean", "seconds", "notes"}
    assert states(small_run) == before


def test_the_seed_option_takes_the_recipes_place(small_store: Path, tmp_path: Path):
    run = tmp_path / "run"
    outcome = call("train", small_store, "train/demo.toml", "--run", run, "--set", "epochs=1", "--seed", "3")
    assert outcome.code == 0
    assert "seed = 3" in (run / "recipe.toml").read_text()
    assert outcome.out.splitlines()[-1] == f"next: vaprompt evaluate {run}"


def test_a_run_is_scored_on_the_training_split_when_asked(small_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    outcome = call("evaluate", run, "--split", "train", "--json")
    assert outcome.code == 0
    assert outcome.json["split"] == "train"
    assert Path(outcome.json["plot"]).is_file()


def test_a_real_process_answers_with_one_json_object_and_keeps_the_rest_on_stderr(small_run: Path, tmp_path: Path):
    media = write_clip(tmp_path / "clip.mp4")
    overlay = tmp_path / "overlay.mp4"
    options = ("--faces", "frames", "--out", tmp_path / "out", "--embed", "--overlay", overlay, "--json")
    outcome = call_process("predict", small_run, media, *options)
    assert outcome.code == 0, outcome.err
    (done,) = outcome.json["done"]
    assert len(rows_of(Path(done["csv"]))) == done["frames"]
    assert len(Path(done["page"]).read_bytes()) > media.stat().st_size
    assert done["overlay"] == str(overlay)
    assert overlay.stat().st_size > 10_000
    assert "predicting" in outcome.err
    assert "Traceback" not in outcome.err
