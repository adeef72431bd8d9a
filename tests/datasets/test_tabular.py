"""Descriptions of other people's data: which file, split and labels belong to which video."""

import pytest

from tests.datasets.layouts import crop, touch
from tests.datasets.official import write_media
from vaprompt.cli.main import run
from vaprompt.datasets.annotation import annotation_of
from vaprompt.datasets.check import check
from vaprompt.datasets.description import DatasetRecipe, open_dataset
from vaprompt.errors import AnnotationError, DatasetError, RecipeError
from vaprompt.recipes import read_recipe, shipped

HEADER = "video,time,valence,arousal,split"


def describe(tmp_path, text="", *, layout="csv", path="labels.csv"):
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if line.startswith("[")), len(lines))
    if "[labels]" not in lines:
        lines += ["[labels]", f'path = "{path}"']
    top = ['name = "mine"', f'layout = "{layout}"', 'root = "set"', *lines[:first]]
    source = tmp_path / "mine.toml"
    source.write_text("\n".join([*top, *lines[first:]]) + "\n")
    return source


def write(tmp_path, *lines, name="labels.csv"):
    path = tmp_path / "set" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def media(tmp_path, *names):
    touch(*(tmp_path / "set" / name for name in names))


def summary(dataset):
    return [(video.name, video.split, video.media and video.media.name) for video in dataset.videos]


def plain(tmp_path, splits=("train", "validation")):
    write(tmp_path, HEADER, f"a,0,0,0,{splits[0]}", f"b,0,0,0,{splits[1]}")
    media(tmp_path, "a.mp4", "b.mov")


def test_one_table_with_a_column_of_splits(tmp_path):
    write(tmp_path, HEADER, "b,0,0,0,test", "a.mp4,0,0,0,train", "s1/c,0,0,0,validation", "s2/c.avi,0,0,0,train")
    media(tmp_path, "a.mp4", "videos/b.mov", "s1/c.mp4", "s2/c.avi")
    dataset = open_dataset(describe(tmp_path))
    assert (dataset.layout, dataset.faces, dataset.label_range) == ("csv", "frames", None)
    assert summary(dataset) == [
        ("a", "train", "a.mp4"),
        ("s2_c", "train", "c.avi"),
        ("s1_c", "validation", "c.mp4"),
        ("b", "test", "b.mov"),
    ]
    assert dataset.videos[2].media.parent.name == "s1"
    assert annotation_of(dataset, dataset.videos[3]).rows == 1, "a test split may have labels"
    assert dataset.problems == ()


def test_a_path_may_begin_with_a_dot_and_leaves_no_other_folder(tmp_path):
    write(tmp_path, HEADER, "./a.mp4,0,0,0,train", "./s1//c,0,0,0,validation")
    media(tmp_path, "a.mp4", "s1/c.mp4")
    dataset = open_dataset(describe(tmp_path))
    assert summary(dataset) == [("a", "train", "a.mp4"), ("s1_c", "validation", "c.mp4")]
    assert dataset.problems == ()
    for cell in ("../a.mp4", "./../a.mp4", "/a.mp4"):
        write(tmp_path, HEADER, f"{cell},0,0,0,train")
        with pytest.raises(DatasetError, match="cannot be the name of a video"):
            open_dataset(describe(tmp_path))


def test_one_table_a_video(tmp_path):
    write(tmp_path, "frame,valence,arousal,split", "1,0,0,train", name="labels/a.csv")
    write(tmp_path, "time,valence,arousal,split", "0,1,1,validation", name="labels/b.csv")
    media(tmp_path, "a.mp4", "b.mov")
    dataset = open_dataset(describe(tmp_path, layout="csv-per-video", path="labels"))
    assert summary(dataset) == [("a", "train", "a.mp4"), ("b", "validation", "b.mov")]
    assert [video.annotation.name for video in dataset.videos] == ["a.csv", "b.csv"]


def test_a_faulty_table_of_one_video_leaves_the_others(tmp_path):
    write(tmp_path, "frame,valence", "1,0", name="labels/a.csv")
    write(tmp_path, "frame,valence,arousal", "1,0,0", name="labels/b.csv")
    media(tmp_path, "a.mp4", "b.mov")
    lists = '[splits]\nvalidation = ["b"]'
    dataset = open_dataset(describe(tmp_path, lists, layout="csv-per-video", path="labels"))
    with pytest.raises(AnnotationError, match=r"a.csv:1: has no column 'arousal'"):
        annotation_of(dataset, dataset.videos[0])
    assert annotation_of(dataset, dataset.videos[1]).rows == 1
    with pytest.raises(AnnotationError, match=r"a.csv:1: has no column 'arousal'"):
        open_dataset(describe(tmp_path, layout="csv-per-video", path="labels"))


def test_splits_from_lists_come_before_the_column(tmp_path):
    plain(tmp_path, ("test", "test"))
    media(tmp_path, "c.mp4")
    dataset = open_dataset(describe(tmp_path, '[splits]\nvalidation = ["b.mov"]\ntest = ["c"]'))
    assert summary(dataset) == [("a", "train", "a.mp4"), ("b", "validation", "b.mov"), ("c", "test", "c.mp4")]
    assert dataset.videos[2].annotation is None
    assert annotation_of(dataset, dataset.videos[2]) is None


def test_folds_keep_a_group_together_and_cover_everything_once(tmp_path):
    names = [f"p{person}_{clip}" for person in range(5) for clip in range(3)]
    write(tmp_path, "video,time,valence,arousal,person", *(f"{name},0,0,0,{name[:2]}" for name in names))
    media(tmp_path, *(f"{name}.mp4" for name in names))
    held_out = []
    for fold in (1, 2, 3):
        text = f'[splits]\nfolds = 3\nfold = {fold}\ngroup = "person"'
        videos = open_dataset(describe(tmp_path, text)).videos
        validation = {video.name for video in videos if video.split == "validation"}
        assert {name[:2] for name in validation}.isdisjoint(
            video.name[:2] for video in videos if video.split == "train"
        )
        held_out += validation
    assert sorted(held_out) == sorted(names)


def test_crops_are_found_by_the_videos_name(tmp_path):
    plain(tmp_path)
    crop(tmp_path / "set/faces/a")
    dataset = open_dataset(describe(tmp_path, 'crops = "faces"'))
    assert dataset.faces == "crops"
    assert [video.crops is not None for video in dataset.videos] == [True, False]
    assert [(problem.kind, problem.video) for problem in dataset.problems] == [("no crops", "b")]
    assert open_dataset(describe(tmp_path, 'crops = "faces"\nfaces = "frames"')).faces == "frames"


def test_a_label_range_is_part_of_the_data_set(tmp_path):
    write(tmp_path, HEADER, "a,0,1,9,train", "a,1,5,3,train")
    media(tmp_path, "a.mp4")
    dataset = open_dataset(describe(tmp_path, '[labels]\npath = "labels.csv"\nlabel_range = [1, 9]'))
    assert dataset.label_range == (1, 9)
    assert annotation_of(dataset, dataset.videos[0]).value_R2.tolist() == [[-1, 1], [0, -0.5]]
    assert dataset.annotations.fingerprint["label_range"] == [1, 9]


@pytest.mark.parametrize(
    ("text", "error", "fault"),
    [
        ('[labels]\npath = "labels.csv"\nlabel_range = [9, 1]', RecipeError, r"label_range = \[9, 1\] is not allowed"),
        ('[labels]\npath = "labels.csv"\nlabel_rage = [1, 9]', RecipeError, "unknown key .*'labels.label_range'"),
        ('[labels]\npath = "../labels.csv"', RecipeError, "leaves the data set's root"),
        ('[labels]\npath = "/labels.csv"', RecipeError, "leaves the data set's root"),
        ('[labels]\npath = "nowhere.csv"', AnnotationError, "no such file"),
        ('faces = "crops"', RecipeError, "names no folder of crops"),
        ('[splits]\nvalidation = ["q"]', DatasetError, "splits.validation names 'q'.*nearest is"),
        ('[splits]\nvalidation = ["a"]\ntest = ["a"]', RecipeError, "'a' for validation and test"),
        ('[splits]\nvalidation = ["a"]\nfolds = 2', RecipeError, "a list for validation and folds"),
        ("[splits]\nfolds = 2\nfold = 3", RecipeError, "splits.fold = 3 is not allowed"),
        ("[splits]\nfolds = 3", DatasetError, "there are 2 groups"),
        ('[splits]\nfolds = 2\ngroup = "person"', AnnotationError, "labels.csv:1: has no column 'person'"),
        ('exclude = ["q"]', DatasetError, "excludes 'q'"),
    ],
)
def test_a_faulty_description_is_one_line(tmp_path, text, error, fault):
    plain(tmp_path)
    with pytest.raises(error, match=fault) as caught:
        open_dataset(describe(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["video,time,valence,arousal", "a,0,0,0"], "no split for video 'a'"),
        ([HEADER, "a,0,0,0,training"], "split 'training' of video 'a' is not allowed"),
        ([HEADER, "a b,0,0,0,train"], "'a b' cannot be the name"),
        ([HEADER, "../a,0,0,0,train"], "'../a' cannot be the name"),
        ([HEADER, "a,0,0,0,train", "a.mp4,1,0,0,train"], "'a' and 'a.mp4' are both called a"),
        ([HEADER, "twin,0,0,0,train"], "'twin' may be .*twin.avi or .*twin.mp4"),
    ],
)
def test_a_table_that_does_not_say_which_video_is_one_line(tmp_path, lines, fault):
    write(tmp_path, *lines)
    media(tmp_path, "a.mp4", "one/twin.avi", "two/twin.mp4")
    with pytest.raises(DatasetError, match=fault):
        open_dataset(describe(tmp_path))


def test_keys_of_one_layout_are_refused_in_another(tmp_path):
    plain(tmp_path)
    with pytest.raises(RecipeError, match="labels says nothing in the layout affwild2"):
        open_dataset(describe(tmp_path, layout="affwild2"))
    source = tmp_path / "bare.toml"
    source.write_text('name = "mine"\nlayout = "csv"\nroot = "set"\n')
    with pytest.raises(RecipeError, match="needs to know where the labels are"):
        open_dataset(source)


def test_the_check_counts_tables_too(tmp_path, capsys):
    write(tmp_path, HEADER, "a,0,,,train", "a,0.5,0,0,train", "b,0,0,7,train", "c,0,0,0,validation", "d,0,0,0,train")
    for name in ("a", "b", "c", "other"):
        write_media(tmp_path / f"set/{name}.mp4", 30)
    source = describe(tmp_path)
    result = check(open_dataset(source))
    assert (result.layout, result.edition, result.ready) == ("csv", None, 2)
    # Of a's frames, one lies at a valid row, and none between two.
    assert (result.splits["train"].videos, result.splits["train"].invalid) == (3, 29)
    assert result.splits["validation"].frames == 30
    assert {problem.video: problem.kind for problem in result.problems} == {
        "b": "annotation",
        "d": "no media",
        "other": "no annotation",
    }
    assert result.left_out == ["b", "d", "other"]
    assert run(["data", "check", str(source)]) == 3
    assert "arousal 7 is outside [-1, 1]" in capsys.readouterr().out


@pytest.mark.parametrize(("column", "far"), [("time", 99), ("frame", 45)])
@pytest.mark.parametrize("deep", [False, True])
def test_the_check_finds_rows_behind_a_videos_end(tmp_path, column, far, deep):
    write(tmp_path, f"video,{column},valence,arousal,split", "a,1,0,0,train", f"b,1,0,0,train\nb,{far},0,0,train")
    for name in ("a", "b"):
        write_media(tmp_path / f"set/{name}.mp4", 30)
    result = check(open_dataset(describe(tmp_path)), deep=deep)
    (problem,) = result.problems
    assert (problem.kind, problem.video, result.left_out) == ("frames and rows", "b", ["b"])
    assert f"has rows up to {'frame 45' if column == 'frame' else '99.00 s'}, but" in problem.detail


def test_the_shipped_example_is_valid_and_names_every_key():
    recipe = read_recipe(DatasetRecipe, shipped("data", "csv-example"))
    assert recipe.layout == "csv"
    text = shipped("data", "csv-example").read_text()
    for key in (
        "label_range",
        "longest_gap",
        "invalid",
        "delimiter",
        "columns",
        "folds",
        "group",
        "validation",
        "crops",
    ):
        assert key in text
