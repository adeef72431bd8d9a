"""Annotation files: exact values, exact faults, and rows that stay with their frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.layouts import annotation
from vaprompt.datasets.affwild2 import align, alignment_note, read_annotation
from vaprompt.datasets.base import Labels
from vaprompt.errors import AnnotationError

value = st.floats(-1, 1, width=32)
row = st.one_of(st.tuples(value, value), st.just((-5, -5)))


@settings(max_examples=40)
@given(rows=st.lists(row, min_size=1, max_size=60))
def test_row_i_is_frame_i_and_minus_five_is_invalid(tmp_path_factory, rows):
    """Fault 1: an invalid row keeps its place, else all labels after it would shift."""
    labels = read_annotation(annotation(tmp_path_factory.mktemp("labels") / "video1.txt", rows))
    np.testing.assert_array_equal(labels.value_F2, np.array(rows, dtype=np.float32))
    np.testing.assert_array_equal(labels.valid_F, [each != (-5, -5) for each in rows])


def test_the_first_column_is_valence(tmp_path):
    labels = read_annotation(annotation(tmp_path / "a.txt", [(0.25, -0.75)]))
    assert labels.value_F2.tolist() == [[0.25, -0.75]]


@pytest.mark.parametrize(
    "text", ["valence,arousal\r\n0.1,0.2\r\n-5,-5\r\n", "valence,arousal\n0.1, 0.2\n-5.0,-5\n\n\n"]
)
def test_line_ends_and_empty_last_lines_do_not_matter(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert read_annotation(tmp_path / "a.txt").valid_F.tolist() == [True, False]


@pytest.mark.parametrize(
    ("second_row", "fault"),
    [
        ("0.1,0.2,0.3", "3 values"),
        ("0.1", "1 values"),
        ("", "the row is empty"),
        ("happy,0.2", "is not two numbers"),
        ("0_1,0.2", "is not two numbers"),
        ("7.3,0.2", r"valence 7.3 is outside \[-1, 1\]"),
        ("0.2,-1.01", r"arousal -1.01 is outside \[-1, 1\]"),
        ("nan,0.2", "valence nan"),
        ("0.2,inf", "arousal inf"),
        ("-5,0.2", "only one of"),
        ("0.2,-5", "only one of"),
        ("-5,7", "only one of"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, second_row, fault):
    path = tmp_path / "video3.txt"
    path.write_text(f"valence,arousal\n0.1,0.2\n{second_row}\n0.3,0.4\n")
    with pytest.raises(AnnotationError, match=fault) as caught:
        read_annotation(path)
    line = str(caught.value)
    assert line.startswith(f"{path}:3: ")
    assert "\n" not in line
    assert "exclude" in line, "the line says what to do"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"arousal,valence\n0,0\n", "1: the header is 'arousal,valence'"),
        (b"0.1,0.2\n", "1: the header is '0.1,0.2'"),
        (b"\xef\xbb\xbfvalence,arousal\n0,0\n", "1: the header is"),
        (b"valence,arousal\n", "no rows"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, content, fault):
    path = tmp_path / "video3.txt"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=fault) as caught:
        read_annotation(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(AnnotationError, match="no such file"):
        read_annotation(tmp_path / "nowhere.txt")


def _labels(rows):
    value_F2 = np.random.default_rng(0).uniform(-1, 1, (rows, 2)).astype(np.float32)
    return Labels(value_F2, np.ones(rows, dtype=bool))


@pytest.mark.parametrize(
    ("rows", "frames"), [(100, 100), (100, 93), (93, 100), (100, 110), (5000, 4951), (4951, 5000), (9, 1)]
)
def test_a_few_rows_more_or_less_keep_the_shorter_from_the_start(tmp_path, rows, frames):
    labels = _labels(rows)
    kept = align(labels, frames, tmp_path / "a.txt")
    assert len(kept.valid_F) == min(rows, frames)
    np.testing.assert_array_equal(kept.value_F2, labels.value_F2[: min(rows, frames)])
    note = alignment_note(rows, frames)
    assert (note is None) == (rows == frames)
    assert note is None or (str(rows) in note and str(frames) in note)


@pytest.mark.parametrize(("rows", "frames"), [(100, 111), (100, 50), (5000, 4900)])
def test_a_large_difference_is_an_error_that_names_both_counts(tmp_path, rows, frames):
    with pytest.raises(AnnotationError, match=rf"{rows} rows .* {frames} frames"):
        align(_labels(rows), frames, tmp_path / "a.txt")
