"""Templates and submissions as files: what is read, what is refused, and which faults are found on which line."""

from pathlib import Path

import pytest

from tests.evaluation.templates import HEADER, write_template
from vaprompt.evaluation.template import SubmissionError, check_submission, read_template


def lines_of(found):
    return [(fault.line, fault.fault) for fault in found[0]]


def disturbed(tmp_path, change):
    template = write_template(tmp_path / "t.txt", [("a_right", frame) for frame in range(1, 6)])
    lines = template.read_text().splitlines()
    change(lines)
    (tmp_path / "s.txt").write_text("\n".join(lines) + "\n")
    return check_submission(tmp_path / "s.txt", template)


@pytest.mark.parametrize(
    ("line", "text", "fault"),
    [
        (1, "image,valence,arousal", "the header is"),
        (3, "a_right/00002.jpg,nan,0", "valence nan is not finite"),
        (3, "a_right/00002.jpg,0,-inf", "arousal -inf is not finite"),
        (4, "a_right/00003.jpg,0,1.0001", "arousal 1.0001 is not in [-1, 1]"),
        (4, "a_right/00003.jpg,-5,-5", "valence -5 is not in [-1, 1]"),
        (5, "a_right/00004.jpg,x,0", "valence 'x' is not a number"),
        (5, "a_right/00004.jpg,,0", "valence '' is not a number"),
        (6, "a_right/00005.jpg,0", "has 2 values, not 3"),
        (6, "a_right/00005.jpg,0,0,0", "has 4 values, not 3"),
        (2, "a/00001.jpg,0,0", "is the row of 'a/00001.jpg', the template has 'a_right/00001.jpg' here"),
    ],
)
def test_each_fault_is_found_and_named_with_its_line(tmp_path, line, text, fault):
    def change(lines):
        lines[line - 1] = text

    found = disturbed(tmp_path, change)
    assert found[1] == 1
    ((where, what),) = lines_of(found)
    assert where == line
    assert what.startswith(fault)


def test_missing_and_surplus_rows_are_counted(tmp_path):
    def drop(lines):
        del lines[3:]

    def add(lines):
        lines.extend(["a_right/00006.jpg,0,0"] * 2)

    assert lines_of(disturbed(tmp_path, drop)) == [(4, "the file ends here; 3 rows of the template are missing")]
    assert lines_of(disturbed(tmp_path, add)) == [(7, "the template ends before this row; 2 rows are too many")]
    assert lines_of(disturbed(tmp_path, lambda lines: lines.pop(2)))[0][0] == 3
    assert disturbed(tmp_path, lambda lines: None) == ([], 0)


def test_only_the_first_faults_are_kept_and_all_are_counted(tmp_path):
    template = write_template(tmp_path / "t.txt", [("a", frame) for frame in range(1, 101)])
    (tmp_path / "s.txt").write_text(template.read_text().replace(",0,0", ",2,0"))
    faults, total = check_submission(tmp_path / "s.txt", template, most=7)
    assert ([fault.line for fault in faults], total) == ([2, 3, 4, 5, 6, 7, 8], 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.txt:1: the header"),
        ("valence,arousal\n", r"t\.txt:1: the header"),
        (f"{HEADER}\n", "header but no rows"),
        (f"{HEADER}\na/00001.jpg,0,0\n00002.jpg,0,0\n", r"t\.txt:3: '00002\.jpg,0,0' is not"),
        (f"{HEADER}\na/one.jpg,0,0\n", r"t\.txt:2:"),
        (f"{HEADER}\na/00000.jpg,0,0\n", r"t\.txt:2:"),
        (f"{HEADER}\na/99999999999.jpg,0,0\n", r"t\.txt:2:"),
        (f"{HEADER}\na/00001,0,0\n", r"t\.txt:2:"),
        (f"{HEADER}\n\na/00001.jpg,0,0\n", r"t\.txt:2:"),
        (f"{HEADER}\na/00001.jpg,0,0\nb/00001.jpg,0,0\na/00001.jpg,0,0\n", r"t\.txt:4: frame 1 of 'a' comes a second"),
    ],
)
def test_a_template_that_is_none_is_refused_with_the_line(tmp_path, content, message):
    path = tmp_path / "t.txt"
    path.write_text(content)
    with pytest.raises(SubmissionError, match=message):
        read_template(path)


def test_a_file_without_lines_is_not_read_to_its_end(tmp_path):
    template = write_template(tmp_path / "t.txt", [("a", 1)])
    (tmp_path / "long.txt").write_text("x" * 30_000)
    for endless in (tmp_path / "long.txt", Path("/dev/zero")):
        with pytest.raises(SubmissionError, match=r":1: has 10000 characters or more; give a text file of rows"):
            check_submission(endless, template)
        with pytest.raises(SubmissionError, match="characters or more"):
            read_template(endless)


def test_foreign_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "t.txt").write_bytes(f"\ufeff{HEADER}\r\na_left/00002.jpg,0,0\r\n\r\n".encode())
    template = read_template(tmp_path / "t.txt")
    assert (template.videos, template.frame_L.tolist()) == (["a_left"], [2])
    with pytest.raises(SubmissionError, match="no such file"):
        read_template(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SubmissionError, match="cannot be read as text"):
        read_template(tmp_path / "b.txt")
