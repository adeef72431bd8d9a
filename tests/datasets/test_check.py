"""What a check counts, and that each single disturbance of a whole data set is found and named."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import official
from tests.datasets.layouts import TEST_LIST
from tests.datasets.official import ANNOTATIONS, OFFICIAL, SMALL, TEMPLATE, cast, write_media, write_tree
from tests.media.clips import write_clip
from vaprompt.cli.main import run
from vaprompt.datasets import editions
from vaprompt.datasets.check import check
from vaprompt.datasets.description import open_dataset
from vaprompt.datasets.editions import Edition, Expected
from vaprompt.datasets.inspection import _by_header

TRAIN, VALIDATION = f"{ANNOTATIONS}/Train_Set", f"{ANNOTATIONS}/Validation_Set"
CROPS = "batch1/cropped_aligned"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("official") / "data"
    write_tree(root, SMALL)
    return root


@pytest.fixture
def tree(small, tmp_path, monkeypatch) -> Path:
    """Return a small whole edition that a test may disturb."""
    expected = {
        split: Expected(count.videos, count.sides, count.frames, sum(count.invalid.values()) or None)
        for split, count in SMALL.items()
    }
    monkeypatch.setattr(editions, "NEAR", 0.3)
    monkeypatch.setattr(editions, "EDITIONS", (Edition("ABAW99", expected),))
    return Path(shutil.copytree(small, tmp_path / "data"))


def found(root: Path, **options):
    return check(open_dataset(root), **options)


def told(result, kind: str) -> list[tuple[str, str]]:
    return [(problem.video, problem.detail) for problem in result.problems if problem.kind == kind]


def test_a_whole_data_set_has_the_official_counts_and_no_problem(tree):
    result = found(tree)
    assert result.problems == []
    assert (result.edition, result.left_out, result.exit_code) == ("ABAW99", [], 0)
    for split, count in SMALL.items():
        there = result.splits[split]
        assert (there.videos, there.sides, there.frames) == (count.videos, count.sides, count.frames)
        assert there.invalid == (sum(count.invalid.values()) if split != "test" else None)
        assert there.crops + there.missing_crops == count.frames
        assert there.missing_crops == sum(person.frames // 67 for person in cast(SMALL) if person.split == split)
        assert there.rates == {"30": count.videos}
        assert (there.sound, there.silent) == (count.videos, 0)


def test_the_json_has_the_promised_form(tree, capsys):
    (tree / TRAIN / "train7.txt").write_text("v,a\n0,0\n")
    assert run(["data", "check", str(tree), "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["layout"], shown["edition"]) == ("affwild2", "ABAW99")
    assert list(shown["splits"]) == ["train", "validation", "test"]
    assert (
        shown["splits"]["validation"].items()
        >= {
            "videos": 5,
            "frames": 400,
            "invalid": 7,
            "expected": {"videos": 5, "sides": 2, "frames": 400, "invalid": 7},
        }.items()
    )
    (problem,) = shown["problems"]
    assert problem.keys() == {"kind", "video", "file", "detail"}
    assert (problem["kind"], problem["video"]) == ("annotation", "train7")
    assert problem["file"] == str(tree / TRAIN / "train7.txt")
    assert shown["left_out"] == ["train7"]


def test_the_table_shows_the_counts_beside_the_official_ones(tree, capsys):
    (tree / f"{CROPS}/train9").rename(tree / f"{CROPS}/trian9")
    assert run(["data", "check", str(tree)]) == 3
    shown = capsys.readouterr().out
    for text in ("ABAW99", "official", "900", "no crops: 1", "trian9", "left out: 1", "  train9", "30 (23)"):
        assert text in shown


def test_one_annotation_missing(tree):
    (tree / TRAIN / "train6.txt").unlink()
    result = found(tree)
    assert told(result, "count") == [("", "train: 11 videos, ABAW99 has 12")]
    unannotated = told(result, "no annotation")
    assert {name for name, _ in unannotated} == {"train6"}
    assert len(unannotated) == 2, "its media file and its crops"
    assert (result.left_out, result.exit_code) == (["train6"], 3)


def test_one_person_on_a_side_missing(tree):
    (right,) = [person.name for person in cast(SMALL) if person.split == "test" and person.media != person.name]
    names = [person.name for person in cast(SMALL) if person.split == "test" and person.name != right]
    (tree / TEST_LIST).write_text("\n".join(names))
    result = found(tree)
    assert ("", "test: 5 videos, ABAW99 has 6") in told(result, "count")
    assert ("", "test: 0 names that end in _left or _right, ABAW99 has 1") in told(result, "count")
    assert [name for name, _ in told(result, "no annotation")] == [right], "its video is still used"
    assert [name for name, _ in told(result, "template")] == [right]


def test_one_side_cut_off_a_name(tree):
    right = next(person.name for person in cast(SMALL) if person.split == "train" and person.name.endswith("_right"))
    (tree / TRAIN / f"{right}.txt").rename(tree / TRAIN / f"{right.removesuffix('_right')}b.txt")
    result = found(tree)
    assert ("", "train: 2 names that end in _left or _right, ABAW99 has 3") in told(result, "count")
    assert [name for name, _ in told(result, "no crops")] == [f"{right.removesuffix('_right')}b"]
    assert right in [name for name, _ in told(result, "no annotation")]
    assert result.exit_code == 3


def test_one_media_file_missing(tree):
    (tree / "batch1/train7.mp4").unlink()
    result = found(tree)
    assert [name for name, _ in told(result, "no media")] == ["train7"]
    assert (result.left_out, result.exit_code) == (["train7"], 3)
    assert told(result, "count") == []


def test_one_row_more(tree):
    path = tree / TRAIN / "train8.txt"
    path.write_text(path.read_text() + "0,0\n")
    result = found(tree)
    ((video, detail),) = told(result, "frames and rows")
    assert video == "train8"
    assert "76 annotation rows, 75 frames" in detail
    assert told(result, "count") == [("", "train: 901 frames, ABAW99 has 900")]
    assert (result.left_out, result.exit_code) == ([], 0), "the row is left over, the video is not"


def test_far_too_many_rows(tree):
    path = tree / TRAIN / "train8.txt"
    path.write_text(path.read_text() + "0,0\n" * 20)
    result = found(tree)
    assert "95 annotation rows, but 75 frames" in told(result, "frames and rows")[0][1]
    assert (result.left_out, result.exit_code) == (["train8"], 3)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("valence,arousal\n", "arousal,valence\n", 1), ("0.125,-0.25\n", "0.125,7\n", 2), ("0.125,-0.25\n", "\n", 2)],
)
def test_one_line_of_an_annotation_changed(tree, old, new, line):
    path = tree / VALIDATION / "validation0.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    result = found(tree)
    ((video, detail),) = told(result, "annotation")
    assert video == "validation0"
    assert detail.startswith(f"{path}:{line}: ")
    assert (result.left_out, result.exit_code) == (["validation0"], 3)
    assert told(result, "count") == [], "that its frames are missing follows from it"


def test_one_invalid_row_fewer(tree):
    path = tree / VALIDATION / "validation2.txt"
    path.write_text(path.read_text().replace("-5,-5\n", "0,0\n", 1))
    assert told(found(tree), "count") == [("", "validation: 6 rows of -5, ABAW99 has 7")]


def test_one_folder_of_crops_misnamed(tree):
    (tree / f"{CROPS}/train9").rename(tree / f"{CROPS}/trian9")
    result = found(tree)
    assert [name for name, _ in told(result, "no crops")] == ["train9"]
    ((name, detail),) = told(result, "no annotation")
    assert name == "trian9"
    assert "train9" in detail, "the name that it should have is told"
    assert (result.left_out, result.exit_code) == (["train9"], 3)


def test_one_crop_folder_of_another_video(tree):
    folder = tree / f"{CROPS}/train6"
    (folder / "00001.jpg").rename(folder / "00500.jpg")
    ((video, detail),) = told(found(tree), "crops")
    assert video == "train6"
    assert "frame 500" in detail
    (folder / "00500.jpg").rename(folder / "00000.jpg")
    ((video, detail),) = told(found(tree), "unreadable crops")
    assert "from 0" in detail


def test_unreadable_media_and_media_without_sound(tree):
    (tree / "batch1/train6.mp4").write_bytes(b"")
    (tree / "batch1/train7.mp4").unlink()
    write_media(tree / "batch1/train7.mp4", 75, sound=False)
    result = found(tree)
    ((video, detail),) = told(result, "unreadable media")
    assert (video, "is empty" in detail) == ("train6", True)
    assert [name for name, _ in told(result, "no sound")] == ["train7"]
    assert result.left_out == ["train6"]
    assert (result.splits["train"].sound, result.splits["train"].silent) == (10, 1)


def test_rates_are_the_containers_and_sound_of_another_length_is_told(tree):
    for name, options in {"train7": {"rate": 10}, "train8": {"seconds": 1.0}}.items():
        (tree / f"batch1/{name}.mp4").unlink()
        write_media(tree / f"batch1/{name}.mp4", 75, **options)
    result = found(tree)
    assert result.splits["train"].rates == {"30": 11, "10": 1}
    ((video, detail),) = told(result, "sound length")
    assert video == "train8"
    assert "8000 Hz" in detail
    assert "silence" in detail
    assert result.exit_code == 0


def test_sound_that_begins_late_and_ends_with_the_picture_is_not_told_to_be_short(tmp_path):
    sound = np.zeros((44100, 1))
    late = write_clip(tmp_path / "late.mp4", times_ms=range(0, 4000, 40), sound=sound, sound_start=3.0)
    short = write_clip(tmp_path / "short.mp4", times_ms=range(0, 4000, 40), sound=sound)
    ends = [_by_header(path).sound for path in (late, short)]
    assert ends == pytest.approx([4.0, 1.0], abs=0.1)


def test_without_a_list_of_test_videos(tree):
    (tree / TEST_LIST).unlink()
    (tree / TEMPLATE).unlink()
    result = found(tree)
    assert result.edition == "ABAW99"
    assert len(told(result, "no test list")) == 1


def test_where_nothing_can_be_extracted_the_exit_code_is_2(tree, capsys):
    for path in (tree / "batch1").glob("*.mp4"):
        path.unlink()
    assert run(["data", "check", str(tree)]) == 2
    assert "0 videos can be extracted" in capsys.readouterr().out
    assert run(["data", "check", str(tree / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_excluded_videos_are_not_missed(tree, tmp_path):
    (tree / "batch1/train7.mp4").write_bytes(b"")
    source = tmp_path / "mine.toml"
    source.write_text('name = "mine"\nroot = "data"\nexclude = ["train7", "train6"]\n')
    result = found(source)
    assert {problem.kind for problem in result.problems} == {"count"}
    assert result.exit_code == 0


def test_deep_counts_decoded_frames_and_reads_every_crop(tree):
    for path in tree.rglob("*.jpg"):
        Image.new("RGB", (8, 8)).save(path)
    result = found(tree, deep=True)
    assert result.problems == []
    assert result.exit_code == 0
    crop = tree / f"{CROPS}/train6/00003.jpg"
    crop.write_bytes(crop.read_bytes()[:100])
    assert found(tree).problems == [], "names and headers only"
    result = found(tree, deep=True)
    ((video, detail),) = told(result, "unreadable crops")
    assert (video, result.left_out) == ("train6", ["train6"])
    assert detail.startswith(str(crop))


def test_videos_without_crops_are_counted_alike(small, tmp_path):
    root = Path(shutil.copytree(small, tmp_path / "bare", ignore=shutil.ignore_patterns("cropped_aligned*")))
    result = found(root)
    assert (result.faces, result.exit_code) == ("frames", 0)
    assert [split.frames for split in result.splits.values()] == [900, 400, 480]


def assert_official(shown) -> None:
    assert (shown["layout"], shown["edition"]) == ("affwild2", "ABAW5-ABAW10")
    assert shown["problems"] == []
    for split in ("train", "validation", "test"):
        there = shown["splits"][split]
        for key, value in there["expected"].items():
            assert there[key] == value, (split, key)


# The kernel's own figure for this process alone: getrusage would count what the tests' process has used before.
MEASURED = """
import sys
from pathlib import Path
from vaprompt.cli.main import run
code = run(sys.argv[1:])
print([line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line][0], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_the_real_counts_on_three_million_empty_crops(tmp_path):
    """The issue's tree: 356, 76 and 162 files, the exact totals, in bounded memory and under a minute."""
    missing = write_tree(tmp_path / "data", OFFICIAL)
    command = [sys.executable, "-c", MEASURED, "data", "check", str(tmp_path / "data"), "--json"]
    start = time.perf_counter()
    shown = subprocess.run(command, check=False, capture_output=True, text=True)
    took = time.perf_counter() - start
    assert shown.returncode == 0, shown.stderr
    memory = int(shown.stderr.split()[-2]) / 1024
    result = json.loads(shown.stdout)
    assert_official(result)
    assert sum(split["crops"]["missing"] for split in result["splits"].values()) == missing
    assert sum(split["crops"]["present"] for split in result["splits"].values()) == 2_993_081 - missing
    assert took < 60
    assert memory < 1000


@pytest.mark.slow
def test_the_real_counts_without_crops(tmp_path):
    write_tree(tmp_path / "data", official.OFFICIAL, crops=False)
    result = found(tmp_path / "data")
    assert result.exit_code == 0
    assert_official(result.as_json())
