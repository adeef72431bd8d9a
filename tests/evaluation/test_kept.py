"""What an evaluation leaves is read back as it was, or refused in one line that says what to do."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vaprompt.errors import RunError
from vaprompt.evaluation.kept import FIELDS, PARTS, PREDICTIONS, RESULT, read_evaluation, write_evaluation
from vaprompt.evaluation.protocols import Judged

RESULT_PARTS = {part: {} for part in PARTS}


def judged(name: str, frames: int, seed: int) -> Judged:
    random = np.random.default_rng(seed)
    index_P = np.arange(0, frames, 7)
    truth_F2 = random.uniform(-1, 1, (frames, 2)).astype(np.float32)
    prediction_F2 = random.uniform(-1, 1, (frames, 2)).astype(np.float32)
    return Judged(
        name,
        np.arange(frames) / 25,
        prediction_F2,
        truth_F2,
        random.random(frames) > 0.1,
        prediction_F2[index_P],
        truth_F2[index_P],
        index_P,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_evaluation(tmp_path / "run", RESULT_PARTS | {"split": "validation"}, [judged("b", 30, 1), judged("a", 1, 2)])
    return tmp_path / "run"


def test_what_was_written_is_read_back(folder: Path):
    found = read_evaluation(folder)
    assert found.folder == folder
    assert found.result == json.loads((folder / RESULT).read_text())
    assert [video.name for video in found.videos] == ["a", "b"]
    for video, expected in zip(found.videos, (judged("a", 1, 2), judged("b", 30, 1)), strict=True):
        for field in Judged.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(video, field), getattr(expected, field))


def test_scores_never_vouch_for_predictions_that_another_command_put_there_meanwhile(folder: Path, monkeypatch):
    replace, writing = Path.replace, RESULT_PARTS | {"split": "validation"}

    def replace_and_be_overtaken(aside: Path, target: Path) -> Path:
        done = replace(aside, target)
        if target.name == PREDICTIONS:
            monkeypatch.undo()
            write_evaluation(folder, writing, [judged("b", 30, 8)])
        return done

    monkeypatch.setattr(Path, "replace", replace_and_be_overtaken)
    write_evaluation(folder, writing, [judged("b", 30, 9)])
    with pytest.raises(RunError, match=r"is not of the evaluation that evaluation\.json tells of; make them with"):
        read_evaluation(folder)


def test_the_same_evaluation_leaves_the_same_bytes(folder: Path, tmp_path: Path):
    write_evaluation(
        tmp_path / "again", RESULT_PARTS | {"split": "validation"}, [judged("b", 30, 1), judged("a", 1, 2)]
    )
    for name in (RESULT, PREDICTIONS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_folder_without_predictions_names_the_command_that_makes_them(folder: Path, tmp_path: Path):
    with pytest.raises(RunError, match=f"no predictions yet; make them with: vaprompt evaluate {tmp_path / 'none'}"):
        read_evaluation(tmp_path / "none")
    (folder / PREDICTIONS).unlink()
    with pytest.raises(RunError, match="scores but no predictions; make them with: vaprompt evaluate"):
        read_evaluation(folder)


def test_scores_of_an_older_version_name_the_command_too(folder: Path):
    (folder / RESULT).write_text(json.dumps(RESULT_PARTS))
    with pytest.raises(RunError, match="scores but no predictions"):
        read_evaluation(folder)


def test_predictions_of_another_evaluation_are_refused(folder: Path, tmp_path: Path):
    write_evaluation(tmp_path / "other", RESULT_PARTS, [judged("b", 31, 1)])
    shutil.copy(tmp_path / "other" / PREDICTIONS, folder / PREDICTIONS)
    with pytest.raises(RunError, match=r"is not of the evaluation that evaluation\.json tells of"):
        read_evaluation(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"split": 1}', "\x00\x01"])
def test_what_is_no_result_is_refused(folder: Path, text: str):
    (folder / RESULT).write_text(text)
    with pytest.raises(RunError, match=r"evaluation\.json: (cannot be read|is not what 'vaprompt evaluate' writes)"):
        read_evaluation(folder)


def forge(folder: Path, **changes: np.ndarray | None) -> None:
    """Change arrays of video b, and let the result vouch for them."""
    arrays = load_file(folder / PREDICTIONS)
    for field, array in changes.items():
        if array is None:
            del arrays[f"b/{field}"]
        else:
            arrays[f"b/{field}"] = array
    write = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(write, folder / PREDICTIONS, metadata={"format": "1"})
    result = json.loads((folder / RESULT).read_text())
    result["predictions"]["sha256"] = hashlib.sha256((folder / PREDICTIONS).read_bytes()).hexdigest()
    (folder / RESULT).write_text(json.dumps(result))


@pytest.mark.parametrize("field", FIELDS)
def test_an_array_that_is_missing_or_of_another_form_is_named(folder: Path, field: str):
    kind, axes = FIELDS[field]
    rows = 30 if axes[0] == "F" else 5
    for array in (
        None,
        np.zeros((rows - 1, *(2,) * (len(axes) - 1)), kind),
        np.zeros((), kind),
        np.zeros((rows, 3), kind),
    ):
        forge(folder, **{field: array})
        with pytest.raises(RunError, match=r"has no whole '.*' of video 'b'"):
            read_evaluation(folder)
    shutil.rmtree(folder)


def test_values_that_cannot_be_are_refused(folder: Path):
    forge(folder, prediction=np.full((30, 2), np.nan, np.float32))
    with pytest.raises(RunError, match="values of video 'b' that cannot be"):
        read_evaluation(folder)


def test_a_row_that_is_not_there_is_refused(folder: Path):
    forge(folder, subset_index=np.array([0, 1, 2, 3, 30]))
    with pytest.raises(RunError, match="values of video 'b' that cannot be"):
        read_evaluation(folder)


def test_scores_that_are_no_file_are_refused_and_not_waited_for(folder: Path):
    (folder / RESULT).unlink()
    os.mkfifo(folder / RESULT)
    with pytest.raises(RunError, match=r"evaluation\.json: cannot be read \(it is no file\); make them with"):
        read_evaluation(folder)
