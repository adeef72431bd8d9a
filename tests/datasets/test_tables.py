"""Tables of labels: every fault is one line with file and line, is its video's alone, and is never mended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaprompt.datasets.tables import ColumnRecipe, TableRecipe, read_table
from vaprompt.errors import AnnotationError

HEADER = "video,time,valence,arousal"


def table(tmp_path, *lines, name="labels.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def recipe(**fields) -> TableRecipe:
    return TableRecipe(path="labels.csv", **fields)


def annotation(path, video="a", **fields):
    return read_table(path, recipe(**fields))[video].annotation()


def test_rows_are_told_apart_by_video_wherever_they_stand(tmp_path):
    path = table(tmp_path, HEADER, "b,0,0.5,0.5", "a,0,0.1,0.2", "b,0.04,0.6,0.6", "a,0.04,0.3,-1")
    videos = read_table(path, recipe())
    assert list(videos) == ["b", "a"]
    first = videos["a"].annotation()
    assert first.position_R.tolist() == [0, 0.04]
    np.testing.assert_allclose(first.value_R2, [(0.1, 0.2), (0.3, -1)])
    assert (first.rows, first.invalid, first.by_frame) == (2, 0, False)


def test_other_columns_any_order_and_a_byte_order_mark_do_not_matter(tmp_path):
    path = table(tmp_path, "\ufeffarousal,rater,video,frame,valence", "0.2,x,a,1,0.1", "0.4,y,a,7,0.3")
    found = annotation(path)
    assert found.by_frame
    assert found.position_R.tolist() == [1, 7]
    np.testing.assert_allclose(found.value_R2, [(0.1, 0.2), (0.3, 0.4)])


def test_columns_and_delimiter_may_have_other_names(tmp_path):
    path = table(tmp_path, "clip;t;V;A", "a;0;0.1;0.2")
    columns = ColumnRecipe(video="clip", time="t", valence="V", arousal="A")
    assert annotation(path, columns=columns, delimiter=";").rows == 1


def test_empty_cells_and_the_mark_are_not_valid(tmp_path):
    path = table(tmp_path, HEADER, "a,0,,", "a,1,0.1,0.2", "a,2,-5,-5")
    found = annotation(path, invalid=-5)
    assert found.valid_R.tolist() == [False, True, False]
    assert found.invalid == 2


@settings(max_examples=60)
@given(
    low=st.floats(-100, 100),
    width=st.floats(0.01, 1000),
    shares=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_the_scale_is_mapped_to_minus_one_and_one(tmp_path_factory, low, width, shares):
    high = low + width
    values = [(min(high, low + one * width), min(high, low + other * width)) for one, other in shares]
    lines = [f"a,{index},{valence!r},{arousal!r}" for index, (valence, arousal) in enumerate(values)]
    path = table(tmp_path_factory.mktemp("scale"), HEADER, *lines)
    found = annotation(path, label_range=(low, high))
    expected = [[2 * (value - low) / (high - low) - 1 for value in row] for row in values]
    np.testing.assert_allclose(found.value_R2, expected, atol=1e-9)
    assert np.abs(found.value_R2).max() <= 1


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("a,1,7.3,0.2", r"valence 7.3 is outside \[-1, 1\]"),
        ("a,1,0.2,-1.01", r"arousal -1.01 is outside \[-1, 1\]"),
        ("a,1,-5,-5", r"valence -5 is outside"),
        ("a,1,inf,0", "valence inf is outside"),
        ("a,1,nan,0", "valence is nan; leave the cell empty"),
        ("a,1,happy,0", "valence 'happy' is not a number"),
        ("a,1,0_1,0", "valence '0_1' is not a number"),
        ("a,1_0,0,0", "time '1_0' is not a number"),
        ("a,1,,0", "only one of valence and arousal"),
        ("a,1,0,", "only one of valence and arousal"),
        ("a,,0,0", "there is no time"),
        ("a,inf,0,0", "time inf is not finite"),
        ("a,soon,0,0", "time 'soon' is not a number"),
        ("a,0,0,0", "time 0 does not come after 0"),
        ("a,-1,0,0", "time -1 does not come after 0"),
    ],
)
def test_a_faulty_row_is_its_videos_fault_alone(tmp_path, row, fault):
    path = table(tmp_path, HEADER, "a,0,0.1,0.2", "b,0,0.1,0.2", row, "a,2,0,0", "b,1,0,0")
    videos = read_table(path, recipe())
    assert videos["b"].annotation().rows == 2
    for _ in range(2):
        with pytest.raises(AnnotationError, match=fault) as caught:
            videos["a"].annotation()
    line = str(caught.value)
    assert line.startswith(f"{path}:4: ")
    assert "\n" not in line
    assert "exclude" in line


@pytest.mark.parametrize("frame", ["0", "-1", "1.5", ""])
def test_frames_are_whole_numbers_from_one(tmp_path, frame):
    path = table(tmp_path, "video,frame,valence,arousal", f"a,{frame},0,0")
    with pytest.raises(AnnotationError, match=r"labels.csv:2: .*frame"):
        annotation(path)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([""], "has no rows"),
        ([HEADER], "has no rows"),
        (["video,when,valence,arousal", "a,0,0,0"], r"1: has no column 'time' or 'frame', only video, when"),
        (["clip,time,valence,arousal", "a,0,0,0"], r"1: has no column 'video'.*\[labels.columns\]"),
        (["video,time,valence", "a,0,0"], "1: has no column 'arousal'"),
        (["video;time;valence;arousal", "a;0;0;0"], r'parted otherwise: set delimiter = ";" under \[labels\]'),
        (["video\ttime\tvalence\tarousal", "a\t0\t0\t0"], r'set delimiter = "\\t" under'),
        (["video,time,valence,valence,arousal", "a,0,0,0,0"], "1: has two columns 'valence'"),
        ([HEADER, "a,0,0"], "2: the row has 3 cells, and the header 4"),
        ([HEADER, "a,0,0,0,0"], "2: the row has 5 cells"),
        ([HEADER, ",0,0,0"], "2: the row names no video"),
        ([HEADER + ",split", "a,0,0,0,train", "a,1,0,0,test"], "3: split 'test' of video 'a' was 'train'"),
        ([HEADER, 'a,0,0,"0'], "is not a CSV"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, lines, fault):
    path = table(tmp_path, *lines)
    with pytest.raises(AnnotationError, match=fault) as caught:
        read_table(path, recipe())
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_table_and_one_in_another_encoding(tmp_path):
    with pytest.raises(AnnotationError, match="no such file"):
        read_table(tmp_path / "nowhere.csv", recipe())
    with pytest.raises(AnnotationError, match="no such file"):
        read_table(tmp_path / "nowhere.parquet", recipe())
    (tmp_path / "labels.csv").write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(AnnotationError, match="cannot be read as text"):
        read_table(tmp_path / "labels.csv", recipe())
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 and more")
    with pytest.raises(AnnotationError, match="not a readable parquet"):
        read_table(tmp_path / "labels.parquet", recipe())


def test_parquet_says_the_same_as_csv(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "video": ["a", "a", "a", "b"],
        "time": [0, 1, 2, 0],
        "valence": [0.1, None, float("nan"), 3.0],
        "arousal": [0.2, None, float("nan"), 0.0],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    videos = read_table(tmp_path / "labels.parquet", recipe())
    assert videos["a"].annotation().valid_R.tolist() == [True, False, False]
    with pytest.raises(AnnotationError, match=r"labels.parquet:4: valence 3 is outside"):
        videos["b"].annotation()
