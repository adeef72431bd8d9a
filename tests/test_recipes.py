"""Recipes: TOML, overrides, and errors that say the nearest key and the range."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vaprompt.errors import RecipeError
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.recipes import read_recipe, shipped, validated, write_recipe
from vaprompt.sweeps.recipe import SweepRecipe
from vaprompt.training.recipe import TrainRecipe


def test_overrides_are_dotted_and_typed():
    recipe = read_recipe(TrainRecipe, None, ["loss.kl=0", "model.temporal.kind=tcn", 'model.modalities=["audio"]'])
    assert recipe.loss.kl == 0
    assert recipe.model.temporal.kind == "tcn"
    assert recipe.model.modalities == ("audio",)


def test_an_override_wins_over_the_file(tmp_path):
    (tmp_path / "r.toml").write_text("batch = 8\n[window]\nframes = 7\n")
    recipe = read_recipe(TrainRecipe, tmp_path / "r.toml", ["window.frames=9"])
    assert (recipe.batch, recipe.window.frames, recipe.window.seconds) == (8, 9, 10.0)


def test_a_recipe_survives_writing_and_reading(tmp_path):
    recipe = read_recipe(TrainRecipe, None, ["batch=7", "regions.sigma=0.6"])
    write_recipe(recipe, tmp_path / "r.toml")
    assert read_recipe(TrainRecipe, tmp_path / "r.toml") == recipe


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.fusin.kind=gated", "model.fusion"),
        ("los.kl=1", "loss"),
        ("batch=1", "greater than or equal to 2"),
        ("loss.kl=-1", "greater than or equal to 0 and less than or equal to 100"),
        ("model.head.dropout=1", "greater than or equal to 0 and less than 1"),
        ("model.temporal.kind=lstm", "'gru' or 'tcn'"),
        ("model.fusion.heads=7", "divide"),
        ("batch.size=3", "batch"),
        ("window=10", "window has no value itself; set fields below it, such as window.seconds"),
        ("nonsense", "key=value"),
        ("=3", "key=value"),
    ],
)
def test_what_is_wrong_with_an_override_is_said_in_one_line(override, says):
    with pytest.raises(RecipeError) as caught:
        read_recipe(TrainRecipe, None, [override])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_is_told_before_the_one_that_is_then_missing():
    with pytest.raises(RecipeError, match=r"unknown key 'variant\.0\.nam'; the nearest valid one is 'variant\.name'"):
        validated(SweepRecipe, {"variant": [{"nam": "a"}]}, where="test")
    with pytest.raises(RecipeError, match=r"^test: lacks 'variant\.0\.name'; give it a value"):
        validated(SweepRecipe, {"variant": [{}]}, where="test")


def test_the_place_of_a_fault_is_the_option_where_it_is_the_options(tmp_path):
    source = tmp_path / "r.toml"
    source.write_text("batch = 8\n")
    with pytest.raises(RecipeError, match=r"^--set loss\.kl=-1: loss\.kl = -1 is not allowed"):
        read_recipe(TrainRecipe, source, ["epochs=2", "loss.kl=-1"])
    source.write_text("batch = 1\n")
    with pytest.raises(RecipeError, match=r"r\.toml: batch = 1 is not allowed"):
        read_recipe(TrainRecipe, source, ["epochs=2"])


def test_a_recipe_of_another_kind_is_told_the_keys_of_this_one():
    with pytest.raises(RecipeError, match=r"unknown key 'image_rate'; valid ones are stream, window, .*, epochs"):
        read_recipe(TrainRecipe, shipped("extract", "demo"))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("image.batch=0", "image.batch = 0 is not allowed; Input should be 'auto' or greater than or equal to 1"),
        ("image_rate=-1", "image_rate = -1 is not allowed; Input should be 'all' or greater than 0"),
    ],
)
def test_a_field_of_several_types_is_told_by_its_name_with_all_that_it_may_be(override, says):
    with pytest.raises(RecipeError) as caught:
        read_recipe(ExtractRecipe, None, [override])
    assert str(caught.value) == f"--set {override}: {says}"


def test_what_never_ends_is_not_read_to_its_end():
    with pytest.raises(RecipeError, match=r"^/dev/zero: is larger than 10 MB; give a TOML text file"):
        read_recipe(TrainRecipe, Path("/dev/zero"))


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbfbatch = 8\r\n")
    assert read_recipe(TrainRecipe, tmp_path / "r.toml").batch == 8


@pytest.mark.parametrize("content", [None, b"", b"a = [", b"\xff\xfe\x00"])
def test_files_that_are_no_toml_are_refused_by_name(tmp_path, content):
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    if content == b"":
        assert read_recipe(TrainRecipe, path) == TrainRecipe()
    else:
        with pytest.raises(RecipeError, match=r"r\.toml"):
            read_recipe(TrainRecipe, path)


def test_the_shipped_paper_recipe_spells_out_the_defaults():
    assert read_recipe(TrainRecipe, shipped("train", "paper")) == TrainRecipe()
    spelled = tomllib.loads(shipped("train", "paper").read_text())
    assert spelled["loss"]["kl"] == 0.2


def test_the_package_imports_without_anything_heavy():
    code = (
        "import sys, vaprompt; heavy = {'torch', 'zarr', 'numpy', 'open_clip', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy; assert vaprompt.ccc and vaprompt.soft_labels"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_texts_come_from_a_file_beside_the_recipe_and_never_from_a_file_that_a_store_or_run_names(tmp_path):
    (tmp_path / "phrases.txt").write_text("# nine\n" + "".join(f"mood {index}\n\n" for index in range(9)))
    (tmp_path / "train.toml").write_text('[regions]\nphrases = "phrases.txt"\n')
    read = read_recipe(TrainRecipe, tmp_path / "train.toml")
    assert read.regions.phrases == tuple(f"mood {index}" for index in range(9))
    assert read_recipe(TrainRecipe, None, [f"regions.phrases={tmp_path / 'phrases.txt'}"]) == read
    with pytest.raises(RecipeError, match=r"phrases = 'none\.txt'.*no such file"):
        read_recipe(TrainRecipe, tmp_path / "train.toml", ["regions.phrases=none.txt"])
    with pytest.raises(RecipeError, match=r"phrases = .* is not allowed"):
        validated(TrainRecipe, {"regions": {"phrases": str(tmp_path / "phrases.txt")}}, where="a run")
