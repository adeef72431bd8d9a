"""Which variants a sweep's file makes, and what is said of a file that cannot be meant so."""

from itertools import product

import pytest

from vaprompt.errors import RecipeError
from vaprompt.evaluation.paper import PAPER
from vaprompt.recipes import read_recipe, shipped
from vaprompt.sweeps.tables import paper_rows
from vaprompt.sweeps.variants import folder_name, read_sweep
from vaprompt.training.recipe import TrainRecipe


def read(folder, text, *overrides):
    source = folder / "sweep.toml"
    source.write_text(text)
    return read_sweep(source, folder / "runs", overrides)


def test_a_grid_is_every_combination_with_every_variant_and_seed(tmp_path):
    text = """
    seeds = [3, 4]
    shared.epochs = 2
    [grid]
    loss.kl = [0.0, 0.5]
    "model.temporal.kind" = ["gru", "tcn"]
    [[variant]]
    name = "seen"
    set = { model.modalities = ["image"] }
    [[variant]]
    name = "heard"
    set = { "model.modalities" = ["audio"] }
    """
    found = {
        (one.recipe.model.modalities[0], one.recipe.loss.kl, one.recipe.model.temporal.kind, one.recipe.seed)
        for one in read(tmp_path, text).variants
    }
    assert found == set(product(("image", "audio"), (0.0, 0.5), ("gru", "tcn"), (3, 4)))
    variants = read(tmp_path, text).variants
    assert len(variants) == 16
    assert {one.recipe.epochs for one in variants} == {2}
    assert len({one.run for one in variants}) == 16
    assert variants[0].name == "seen, kl=0, temporal.kind=gru"
    assert variants[0].run == tmp_path / "runs" / "seen-kl=0-temporal.kind=gru-seed3"


def test_what_a_variant_sets_comes_before_what_all_share_and_that_before_the_base(tmp_path):
    (tmp_path / "mine.toml").write_text("batch = 64\nepochs = 7\n[loss]\nkl = 0.7\n")
    text = """
    base = "mine.toml"
    shared = { epochs = 8, optimiser.learning_rate = 2e-4 }
    [[variant]]
    name = "a"
    set = { epochs = 9 }
    [[variant]]
    name = "b"
    """
    a, b = (one.recipe for one in read(tmp_path, text, "optimiser.weight_decay=0.5").variants)
    assert (a.batch, a.epochs, a.loss.kl, a.optimiser.learning_rate, a.optimiser.weight_decay) == (
        64,
        9,
        0.7,
        2e-4,
        0.5,
    )
    assert b == a.model_copy(update={"epochs": 8})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[grid]\nloss.kk = [1]", "unknown key 'loss.kk'; the nearest valid one is 'loss.kl'"),
        ("[grid]\nloss.kl = [0.1, -1]", r"variant 'kl=-1': loss.kl = -1 is not allowed; .*greater than or equal to 0"),
        ("[grid]\nloss.kl = 0.1", "grid.loss.kl must be a list of values"),
        ("[grid]\nloss.kl = [0.1, 0.1]", "grid.loss.kl has a value twice"),
        ("gird = {}", "unknown key 'gird'; the nearest valid one is 'grid'"),
        ("", "give variants"),
        ("shared.epoch = 3\nseeds = [0]", "unknown key 'epoch'; the nearest valid one is 'epochs'"),
        (
            "[[variant]]\nname = 'a'\nset.batch = 1",
            r"variant 'a': batch = 1 is not allowed; .*greater than or equal to 2",
        ),
        ("[[variant]]\nname = 'a'\n[[variant]]\nname = 'a'", "two variants have one name"),
        ("[[variant]]\nname = 'a/b'\n[[variant]]\nname = 'a:b'\nset.batch = 8", "would both be trained in"),
        ("[[variant]]\nname = 'a'\n[[variant]]\nname = 'b'", "'a' and 'b' are one and the same"),
        ("base = 'none.toml'\nseeds = [0]", "there is no such file"),
        ("[grid]\nseed = " + str(list(range(10_001))), "makes 10001 variants"),
        ("seeds = [1, 1]", "a seed is given twice"),
        ("[search]\ntrials = 3\nspace = {}", "space"),
        ("[search]\ntrials = 3\nspace.loss.kl = { low = 1.0, high = 0.0 }", "low must be below high"),
        ("[search]\ntrials = 3\nspace.loss.kl = 3", "must be a range"),
        ("[search]\ntrials = 3\nspace.loss.kl = { low = 0.0, high = 1e3 }", "less than or equal to 100"),
        ("[search]\ntrials = 3\nspace.loss.k = { low = 0.0, high = 1.0 }", "the nearest valid one is 'loss.kl'"),
        (
            "[search]\ntrials = 3\nspace.batch = { low = 4, high = 8, step = 0.5 }",
            "batch: step = 0.5 is not whole",
        ),
        ("[search]\ntrials = 3\nspace.compute.at_once = { low = 2.5, high = 8 }", "valid integer"),
        ("seeds = [0]\n[search]\ntrials = 3\nspace.loss.kl = { low = 0.0, high = 1.0 }", "no variants, grid or seeds"),
        ("table = 2\n[[variant]]\nname = 'LSTM'", "is no row of the paper's table 2; its rows are: TCN, attention; "),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(tmp_path, text, said):
    with pytest.raises(RecipeError, match=said) as error:
        paper_rows(read(tmp_path, text))
    assert "sweep.toml" in str(error.value) or "none.toml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_papers_tables_are_all_there_and_differ_in_what_they_are_about(number, tmp_path):
    sweep = read_sweep(shipped("train", f"table{number}"), tmp_path)
    assert [row.variant for row in paper_rows(sweep)] == [row.variant for row in PAPER if row.table == number]
    recipes = [one.recipe.model_dump() for one in sweep.variants]
    paper = read_recipe(TrainRecipe, shipped("train", "paper")).model_dump()
    differing = {key for recipe in recipes for key in recipe if recipe[key] != paper[key]}
    assert differing == {1: {"stream", "model"}, 2: {"model"}, 3: {"regions"}}[number]
    # The whole method, of whose fusion the first table has only half.
    assert (paper in recipes) == (number != 1)


def test_a_name_is_a_folders_name_whatever_it_holds():
    for name in ("a/b", "../up", "a b", ".hidden", "é", "", "x" * 500, "a\nb", "-flag"):
        folder = folder_name(name)
        assert folder
        assert len(folder) <= 120
        assert "/" not in folder
        assert not folder.startswith((".", "-"))


def test_a_search_may_try_what_fits_the_other_values_that_it_tries_and_not_the_base(tmp_path):
    space = '"model.width" = { choices = [192, 384] }\n"model.fusion.heads" = { choices = [6, 12] }'
    sweep = read(tmp_path, f"[search]\ntrials = 3\n[search.space]\n{space}")
    assert sweep.search.spaces()["model.fusion.heads"].choices == (6, 12)
