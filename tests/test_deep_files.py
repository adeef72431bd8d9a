"""Text that nests more deeply than Python can follow is one line that names the file, whoever reads it."""

import struct
from pathlib import Path

import pytest

from vaprompt.caching import cache_folder, remembered
from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
from vaprompt.datasets.synthetic.writer import MARKER, write_synthetic
from vaprompt.encoders.weights import tensor_digest
from vaprompt.errors import RecipeError, RunError, TargetError, VapromptError, WeightsError
from vaprompt.evaluation.kept import RESULT, read_scores
from vaprompt.recipes import read_recipe
from vaprompt.report.evidence import _history
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import FACTS, METRICS, read_complete

DEEP = "[" * 100_000


def read_weights(folder: Path) -> None:
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(DEEP)) + DEEP.encode())
    tensor_digest(folder / "w.safetensors")


@pytest.mark.parametrize(
    ("file", "read", "error"),
    [
        (FACTS, read_complete, RunError),
        (RESULT, read_scores, RunError),
        (METRICS, lambda folder: _history(folder / METRICS), RunError),
        (MARKER, lambda folder: write_synthetic(folder, SyntheticRecipe()), TargetError),
        ("w.safetensors", read_weights, WeightsError),
    ],
)
def test_json_that_nests_too_deeply_is_one_line(tmp_path, file, read, error):
    (tmp_path / file).write_text(DEEP)
    with pytest.raises(error, match=rf"{file}: .*nests too deeply") as caught:
        read(tmp_path)
    assert isinstance(caught.value, VapromptError)


def test_a_cache_that_nests_too_deeply_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path))
    assert remembered({"a": 1}, lambda: 7) == 7
    (file,) = (cache_folder() / "facts").iterdir()
    file.write_text(DEEP)
    assert remembered({"a": 1}, lambda: 8) == 8


@pytest.mark.parametrize("text", [f"seed = {DEEP}", "seed = " + "{a=" * 5000, "a." * 1500 + "b = 1"])
def test_toml_that_nests_too_deeply_is_one_line(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.toml: nests lists or tables too deeply"):
        read_recipe(TrainRecipe, tmp_path / "r.toml")


def test_an_override_that_nests_too_deeply_is_a_text():
    with pytest.raises(RecipeError, match="seed"):
        read_recipe(TrainRecipe, None, ["seed=" + "[" * 5000])


def test_a_run_that_does_not_say_whether_it_is_finished_is_refused(tmp_path):
    (tmp_path / FACTS).write_text('{"format": 1}')
    with pytest.raises(RunError, match="lacks 'status'"):
        read_complete(tmp_path)
