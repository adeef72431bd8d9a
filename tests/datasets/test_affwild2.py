"""Aff-Wild2's layout, in the many ways in which people unpack it."""

import pytest

from tests.datasets.layouts import EDITIONS, TEST_LIST, affwild2, annotation, crop, touch
from vaprompt.datasets.affwild2 import read_affwild2, recognises, submission_template
from vaprompt.errors import DatasetError


def by_name(dataset):
    return {video.name: video for video in dataset.videos}


def relative(path, root):
    return path.relative_to(root).as_posix()


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("merged", [True, False])
def test_every_edition_and_every_unpacking_reads_alike(tmp_path, edition, merged):
    root = affwild2(tmp_path, edition, merged=merged)
    dataset = read_affwild2(root)
    assert recognises(root)
    assert dataset.faces == "crops"
    assert dataset.problems == ()
    assert [(video.name, video.split) for video in dataset.videos] == [
        ("10-60-1280x720", "train"),
        ("10-60-1280x720_right", "train"),
        ("7-60-1920x1080-1", "train"),
        ("video5_left", "train"),
        ("49_1", "validation"),
        ("video2", "validation"),
        ("video99_right", "test"),
    ]
    for video in dataset.videos:
        assert video.crops.name == video.name
        assert (video.annotation is None) == (video.split == "test")
        assert video.annotation is None or video.annotation.stem == video.name


def test_two_people_share_a_video_but_never_their_faces(tmp_path):
    videos = by_name(read_affwild2(affwild2(tmp_path)))
    plain, right = videos["10-60-1280x720"], videos["10-60-1280x720_right"]
    assert plain.media == right.media
    assert plain.crops.name == "10-60-1280x720"
    assert right.crops.name == "10-60-1280x720_right"


def test_the_exact_name_comes_before_the_name_without_side(tmp_path):
    """`video2_left` may be a file of its own beside `video2`."""
    root = affwild2(tmp_path)
    annotation(root / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set/video2_left.txt")
    annotation(root / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set/video2_right.txt")
    touch(root / "batch2/video2_left.mp4")
    videos = by_name(read_affwild2(root))
    assert videos["video2"].media.name == "video2.mp4"
    assert videos["video2_left"].media.name == "video2_left.mp4"
    assert videos["video2_right"].media.name == "video2.mp4"


def test_only_a_trailing_side_is_cut_off(tmp_path):
    """`...-1` and `..._1` are videos of their own, and so is whatever has `_left` in its middle."""
    root = affwild2(tmp_path)
    folder = root / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set"
    annotation(folder / "a_left_2.txt")
    annotation(folder / "49_2.txt")
    touch(root / "batch1/a.mp4", root / "batch1/49.mp4")
    videos = by_name(read_affwild2(root))
    assert videos["a_left_2"].media is None
    assert videos["49_2"].media is None
    assert relative(videos["49_1"].media, root) == "batch1/49_1.mp4"


def test_annotations_without_video_are_told_and_the_others_go_on(tmp_path):
    root = affwild2(tmp_path)
    (root / "batch1/video2.mp4").unlink()
    dataset = read_affwild2(root)
    assert len(dataset.videos) == 7
    assert by_name(dataset)["video2"].media is None
    (problem,) = dataset.problems
    assert (problem.kind, problem.video) == ("no media", "video2")
    assert "video2.mp4" in problem.detail


def test_missing_crop_folders_are_told_and_never_borrowed(tmp_path):
    root = affwild2(tmp_path, merged=True)
    for path in (root / "cropped_aligned/10-60-1280x720_right").iterdir():
        path.unlink()
    (root / "cropped_aligned/10-60-1280x720_right").rmdir()
    dataset = read_affwild2(root, faces="crops")
    assert by_name(dataset)["10-60-1280x720_right"].crops is None, "the plain twin is another person"
    assert [(problem.kind, problem.video) for problem in dataset.problems] == [("no crops", "10-60-1280x720_right")]
    assert read_affwild2(root, faces="frames").problems == (), "whole frames need no crops"


def test_faces_follow_what_is_there(tmp_path):
    root = affwild2(tmp_path / "both")
    assert read_affwild2(root).faces == "crops"
    assert read_affwild2(root, faces="frames").faces == "frames"
    bare = tmp_path / "bare"
    annotation(bare / "VA_Estimation_Challenge/Train_Set/a.txt")
    touch(bare / "a.mp4")
    assert read_affwild2(bare).faces == "frames"
    with pytest.raises(DatasetError, match="cropped_aligned"):
        read_affwild2(bare, faces="crops")
    (bare / "a.mp4").unlink()
    with pytest.raises(DatasetError, match="no video file"):
        read_affwild2(bare)
    crop(bare / "cropped_aligned/a")
    with pytest.raises(DatasetError, match="no video file"):
        read_affwild2(bare, faces="frames")
    assert read_affwild2(bare).faces == "crops"


def test_other_challenges_beside_it_are_left_alone(tmp_path):
    root = affwild2(tmp_path)
    other = root / "6th ABAW Annotations/EXPR_Classification_Challenge/Train_Set/video2.txt"
    other.parent.mkdir(parents=True)
    other.write_text("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n0\n")
    touch(root / "names_of_videos_in_each_test_set/Expression_Classification_Challenge_test_set_release.txt")
    assert len(read_affwild2(root).videos) == 7


def test_unaligned_crops_are_not_taken(tmp_path):
    root = affwild2(tmp_path)
    for folder in ("cropped/batch1/video2", "cropped/cropped_new_50_vids/video5_left"):
        crop(root / folder, range(1, 4))
    dataset = read_affwild2(root)
    assert dataset.problems == ()
    assert all("aligned" in video.crops.parent.name for video in dataset.videos)


def test_an_archive_unpacked_into_its_own_name(tmp_path):
    root = affwild2(tmp_path, merged=True)
    (root / "cropped_aligned").rename(root / "inner")
    (root / "cropped_aligned").mkdir()
    (root / "inner").rename(root / "cropped_aligned/cropped_aligned")
    assert read_affwild2(root).problems == ()


def test_links_may_lead_in_a_circle(tmp_path):
    root = affwild2(tmp_path / "data")
    (root / "batch1/again").symlink_to(root, target_is_directory=True)
    dataset = read_affwild2(root)
    assert len(dataset.videos) == 7
    assert dataset.problems == ()


def test_hidden_files_of_other_systems_are_not_annotations(tmp_path):
    root = affwild2(tmp_path)
    touch(root / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set/._video5_left.txt", root / "batch1/._a.mp4")
    assert len(read_affwild2(root).videos) == 7


def test_without_a_list_there_is_no_test_split(tmp_path):
    assert {video.split for video in read_affwild2(affwild2(tmp_path, tests=False)).videos} == {"train", "validation"}


def test_two_files_for_one_video_are_told(tmp_path):
    root = affwild2(tmp_path)
    touch(root / "batch2/video2.avi")
    (problem,) = read_affwild2(root).problems
    assert (problem.kind, problem.video) == ("doubled", "video2")
    assert by_name(read_affwild2(root))["video2"].media == root / "batch1/video2.mp4"


def test_one_wrong_header_does_not_hide_the_others(tmp_path):
    root = affwild2(tmp_path)
    (root / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set/10-60-1280x720.txt").write_text("v,a\n0,0\n")
    assert len(read_affwild2(root).videos) == 7


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: touch(root / "video1.mp4"), "holds no Train_Set"),
        (lambda root: touch(root / "Train_Set/a.txt"), "begins with ''"),
        (lambda root: [affwild2(root), affwild2(root, "5th_ABAW_Annotations")], "two editions"),
        (
            lambda root: annotation(
                affwild2(root) / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set/video2.txt"
            ),
            "in the train split and again in the validation split",
        ),
        (lambda root: (affwild2(root) / TEST_LIST).write_text("video99_right\n../../etc\n"), "2: '../../etc' is not"),
        (lambda root: (affwild2(root) / TEST_LIST).write_text("video2\n"), "again in the test split"),
        (
            lambda root: annotation(affwild2(root) / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set/a b.txt"),
            "'a b' is not the name",
        ),
    ],
)
def test_a_folder_that_is_no_data_set_is_one_line(tmp_path, make, fault):
    root = tmp_path / "data"
    make(root)
    with pytest.raises(DatasetError, match=fault) as caught:
        read_affwild2(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["CVPR_6th_ABAW_VA_test_set_example.txt", "CVPR_8th_ABAW_VA_test_set_sample.txt", "ABAW_VA_test_set_sample.txt"],
)
def test_the_template_of_a_submission_is_found_and_is_no_list_of_videos(tmp_path, name):
    root = affwild2(tmp_path)
    assert submission_template(root) is None
    (root / name).write_text("image_location,valence,arousal\nvideo99_right/00001.jpg,0,0\n")
    assert submission_template(root) == root / name
    assert [video.name for video in read_affwild2(root).videos if video.split == "test"] == ["video99_right"]
    (root / "batch1" / name).write_text("image_location,valence,arousal\n")
    with pytest.raises(DatasetError, match="2 templates"):
        submission_template(root)


def test_no_picture_is_listed_to_understand_the_folders(tmp_path, monkeypatch):
    """Aff-Wild2 has three million crops: the walk must not look into a person's folder."""
    import os

    root = affwild2(tmp_path)
    visited = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: visited.append(str(folder)) or scandir(folder))
    read_affwild2(root)
    assert not any(path.endswith(("video2", "video5_left")) for path in visited)
