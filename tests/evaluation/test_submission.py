"""The challenge's file: same rows, same order, every value finite and in range; and what the check finds."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planted import plant_store
from tests.training.test_run import recipe
from vaprompt import FeatureStore, load_run
from vaprompt.cli.main import run as command
from vaprompt.errors import FingerprintError, RunError
from vaprompt.evaluation.smoothing import Smoothing, smooth
from vaprompt.evaluation.submission import fill_frames, picture_ends, submit
from vaprompt.evaluation.template import SubmissionError, check_submission, read_template
from vaprompt.training.run import train

HEADER = "image_location,valence,arousal"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submitted")
    store = plant_store(folder / "store.zarr", train=3, validation=2, test=2, seconds=20.0)
    train(store, recipe(epochs=1), folder / "run", device="cpu")
    train(store, recipe(epochs=1), folder / "other", seed=1, device="cpu")
    return store, folder / "run"


def write_template(path, rows):
    path.write_text("\n".join([HEADER, *(f"{video}/{frame:05d}.jpg,0,0" for video, frame in rows)]) + "\n")
    return path


def all_rows(store):
    source = FeatureStore.open(store)
    return [(name, row + 1) for name in source.videos("test") for row in range(len(source.labels(name).time_F))]


def read(path):
    lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    return lines[0], [row[0] for row in cells], np.array([[float(value) for value in row[1:]] for row in cells])


def test_rows_and_order_are_the_templates_and_values_are_the_runs(trained, tmp_path):
    store, run = trained
    rows = all_rows(store)
    np.random.default_rng(0).shuffle(rows)
    template = write_template(tmp_path / "template.txt", rows)
    written = submit([run], store=store, template=template, out=tmp_path / "mine.txt", every=1, device="cpu")
    header, locations, values = read(tmp_path / "mine.txt")
    assert header == HEADER
    assert locations == [f"{video}/{frame:05d}.jpg" for video, frame in rows]
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1
    source, loaded = FeatureStore.open(store), load_run(run)
    missing = 0
    for name in source.videos("test"):
        image, audio, time = source.image(name), source.audio(name), source.labels(name).time_F
        at = loaded.predict_at(image.time_N, image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, time)
        missing += len(time) - len(image.time_N)
        for (video, frame), value in zip(rows, values, strict=True):
            if video == name:
                expected = [np.interp(time[frame - 1], image.time_N, at[:, axis]) for axis in (0, 1)]
                np.testing.assert_allclose(value, expected, atol=2e-6)
    assert missing > 0
    assert (written.rows, written.videos, written.filled) == (len(rows), 2, missing)
    assert "nothing is interpolated" in written.interpolation
    assert check_submission(tmp_path / "mine.txt", template) == ([], 0)


def test_runs_are_averaged_and_smoothed_and_part_of_a_video_is_enough(trained, tmp_path):
    store, run = trained
    other = run.with_name("other")
    rows = all_rows(store)[3:150:2]
    template = write_template(tmp_path / "template.txt", rows)
    values = []
    for number, runs in enumerate(([run], [other], [run, other])):
        submit(runs, store=store, template=template, out=tmp_path / f"{number}.txt", device="cpu")
        values.append(read(tmp_path / f"{number}.txt")[2])
    np.testing.assert_allclose(values[2], (values[0] + values[1]) / 2, atol=2e-6)
    full = write_template(tmp_path / "full.txt", all_rows(store))
    submit([run], store=store, template=full, out=tmp_path / "plain.txt", device="cpu")
    filtered = Smoothing("mean", 1.0)
    written = submit([run], store=store, template=full, out=tmp_path / "even.txt", device="cpu", smoothing=filtered)
    assert "smoothed: mean:1" in written.notes
    time = FeatureStore.open(store).labels("video5").time_F
    plain, even = (read(tmp_path / name)[2][: len(time)] for name in ("plain.txt", "even.txt"))
    np.testing.assert_allclose(even, smooth(time, plain, filtered), atol=3e-6)


def test_windows_end_at_pictures_alone():
    time = np.array([0.4, 0.5, 0.6, 3.4, 6.2, 9.0])
    ends = picture_ends(time, 10.0, seconds=4.0, stride=3.0, every=None)  # the grid: 0, 1, 4, 7, 10
    np.testing.assert_allclose(ends, [0.4, 0.6, 3.4, 6.2, 9.0])
    np.testing.assert_allclose(picture_ends(time, 10.0, seconds=4.0, stride=3.0, every=4), [0.4, 6.2, 9.0])


def test_frames_without_a_picture_are_filled_as_asked():
    time = np.arange(6) / 10
    have = time[[1, 4]]
    value = np.array([[0.0, 1.0], [0.3, -0.5]], np.float32)
    cases = {
        "interpolate": [0, 0, 0.1, 0.2, 0.3, 0.3],
        "previous": [0, 0, 0, 0, 0.3, 0.3],
        "nearest": [0, 0, 0, 0.3, 0.3, 0.3],
    }
    for fill, expected in cases.items():
        np.testing.assert_allclose(fill_frames(have, value, time, fill)[:, 0], expected, atol=1e-6)


@settings(deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1), st.sampled_from(["interpolate", "previous", "nearest"]))
def test_filling_keeps_what_is_there_and_stays_between_its_neighbours(kept, fill):
    time = np.arange(61) / 30
    rows = np.array(sorted(kept))
    value = np.random.default_rng(len(kept)).uniform(-1, 1, (len(rows), 2)).astype(np.float32)
    found = fill_frames(time[rows], value, time, fill)
    np.testing.assert_allclose(found[rows], value, atol=1e-6)
    for row in range(61):
        before, after = rows[rows <= row], rows[rows >= row]
        near = [found[side] for side in (before[-1:], after[:1]) if len(side)]
        near = np.concatenate(near)
        assert (found[row] >= near.min(axis=0) - 1e-6).all()
        assert (found[row] <= near.max(axis=0) + 1e-6).all()


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


def test_foreign_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "t.txt").write_bytes(f"\ufeff{HEADER}\r\na_left/00002.jpg,0,0\r\n\r\n".encode())
    template = read_template(tmp_path / "t.txt")
    assert (template.videos, template.frame_L.tolist()) == (["a_left"], [2])
    with pytest.raises(SubmissionError, match="no such file"):
        read_template(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SubmissionError, match="cannot be read as text"):
        read_template(tmp_path / "b.txt")


def test_a_template_that_the_store_cannot_answer_is_refused_and_nothing_is_written(trained, tmp_path):
    store, run = trained
    template = write_template(tmp_path / "t.txt", [("video5", 1), ("video99", 1), ("video98", 1)])
    out = tmp_path / "out" / "mine.txt"
    with pytest.raises(SubmissionError, match=r"t\.txt:3: video 'video99' and 1 more of 3 are not in"):
        submit([run], store=store, template=template, out=out, device="cpu")
    write_template(template, [("video5", 200), ("video5", 210), ("video5", 211)])
    with pytest.raises(SubmissionError, match=r"t\.txt:4: asks for frame 211 of 'video5'.*has 200"):
        submit([run], store=store, template=template, out=out, device="cpu")
    assert not out.exists()
    write_template(template, [("video5", 200), ("video5", 210)])
    written = submit([run], store=store, template=template, out=out, device="cpu")
    values = read(out)[2]
    np.testing.assert_array_equal(values[0], values[1])
    assert any("1 rows are of frames behind" in note for note in written.notes)
    with pytest.raises(RunError, match="no run is given"):
        submit([], store=store, template=template, out=out, device="cpu")
    with pytest.raises(RunError, match="given twice"):
        submit([run, run], store=store, template=template, out=out, device="cpu")


def test_another_kind_of_features_is_refused(trained, tmp_path):
    store, run = trained
    other = tmp_path / "other.zarr"
    shutil.copytree(store, other)
    marker = other / "image" / "zarr.json"
    marker.write_text(marker.read_text().replace('"planted"', '"another"'))
    template = write_template(tmp_path / "t.txt", [("video5", 1)])
    with pytest.raises(FingerprintError):
        submit([run], store=other, template=template, out=tmp_path / "mine.txt", device="cpu")


def test_the_command_writes_checks_and_says_what_is_wrong(trained, tmp_path, capsys):
    store, run = trained
    template = write_template(tmp_path / "t.txt", all_rows(store))
    mine = tmp_path / "mine.txt"
    place = ["--store", str(store), "--template", str(template), "--out", str(mine)]
    assert command(["submit", str(run), *place, "--fill", "nearest", "--smooth", "median:1", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written["rows"] == 400
    check = ["submit", "--check", str(mine), "--template", str(template)]
    assert command([*check, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"]
    lines = mine.read_text().splitlines()
    lines[7] = lines[7].replace(",", ",9", 1)
    mine.write_text("\n".join(lines))
    assert command(check) == 2
    assert capsys.readouterr().out.startswith(f"{mine}:8: valence 9")
    assert command(["submit", str(run), "--template", str(template)]) == 2
    assert command(["submit", str(run), *place, "--smooth", "box"]) == 2
    assert command([*check, "--store", str(store)]) == 2
