"""Descriptions: what `data/*.toml` may say, and where the paths in it start."""

import pytest

from tests.datasets.layouts import affwild2
from vaprompt.datasets.description import DatasetRecipe, open_dataset
from vaprompt.errors import DatasetError, RecipeError
from vaprompt.recipes import read_recipe, shipped


def describe(tmp_path, **fields):
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in {"name": "mine", "root": "set", **fields}.items()]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    return path


def test_a_folder_is_recognised(tmp_path):
    root = affwild2(tmp_path / "Aff-Wild2")
    dataset = open_dataset(root)
    assert (dataset.name, dataset.layout, dataset.root, len(dataset.videos)) == ("Aff-Wild2", "affwild2", root, 7)


def test_a_description_finds_its_root_beside_itself(tmp_path, monkeypatch):
    affwild2(tmp_path / "set")
    source = describe(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    dataset = open_dataset(source)
    assert (dataset.name, len(dataset.videos), dataset.faces) == ("mine", 7, "crops")
    assert open_dataset(describe(tmp_path, faces="frames")).faces == "frames"


def test_a_root_may_be_absolute_or_at_home(tmp_path, monkeypatch):
    root = affwild2(tmp_path / "far" / "set")
    assert len(open_dataset(describe(tmp_path, root=str(root))).videos) == 7
    monkeypatch.setenv("HOME", str(tmp_path / "far"))
    assert len(open_dataset(describe(tmp_path, root="~/set")).videos) == 7


def test_excluded_videos_and_their_problems_are_left_out(tmp_path):
    root = affwild2(tmp_path / "set")
    (root / "batch1/video2.mp4").unlink()
    dataset = open_dataset(describe(tmp_path, exclude=["video2", "49_1"]))
    assert dataset.problems == ()
    assert {video.name for video in dataset.videos if video.split == "validation"} == set()
    assert len(dataset.videos) == 5


def test_an_unknown_exclusion_names_the_nearest_video(tmp_path):
    affwild2(tmp_path / "set")
    with pytest.raises(DatasetError, match=r"excludes 'video3'.*nearest.*video2"):
        open_dataset(describe(tmp_path, exclude=["video3"]))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"root": "nowhere"}, "is not a folder"),
        ({"layout": "imagenet"}, "layout = 'imagenet'"),
        ({"faces": "heads"}, "faces = 'heads'"),
        ({"folder": "set"}, "unknown key 'folder'"),
        ({"facez": "crops"}, "nearest valid one is 'faces'"),
        ({"name": "a/b"}, "name = 'a/b'"),
    ],
)
def test_a_faulty_description_is_one_line(tmp_path, fields, fault):
    affwild2(tmp_path / "set")
    source = describe(tmp_path, **fields)
    with pytest.raises(RecipeError, match=fault) as caught:
        open_dataset(source)
    assert str(caught.value).startswith(str(source))


def test_what_is_neither_folder_nor_description_is_refused(tmp_path):
    (tmp_path / "movie.mp4").touch()
    with pytest.raises(DatasetError, match="neither a folder nor"):
        open_dataset(tmp_path / "movie.mp4")
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match="no such file"):
        open_dataset(tmp_path / "nowhere.toml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no layout that is known"):
        open_dataset(tmp_path / "empty")


@pytest.mark.parametrize("name", ["affwild2", "demo"])
def test_the_shipped_descriptions_are_valid(name):
    recipe = read_recipe(DatasetRecipe, shipped("data", name))
    assert recipe.name == name
    assert (recipe.synthetic is not None) == (name == "demo")
