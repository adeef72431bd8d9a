"""Files that appear whole or not at all, and folders to write into."""

import errno
import os
from pathlib import Path

import pytest

from vaprompt.errors import TargetError
from vaprompt.files import clear_left_behind, held, make_folder, published, require_folder, write_json


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_in_the_place_of_a_folder_is_told_to_be_one(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / below
    with pytest.raises(TargetError, match="cannot be written: a file is in the place of a folder; choose another"):
        make_folder(folder)
    with pytest.raises(TargetError, match="a folder"), published(folder / "x.csv"):
        pass
    with pytest.raises(TargetError, match="is a file"):
        require_folder(folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_required_of_a_folder_makes_none(tmp_path):
    require_folder(tmp_path / "a" / "b")
    require_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_mounted_to_be_read_is_one_line(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # as such a disk does also where there is nothing to remove
    with pytest.raises(TargetError, match=r"r\.json: cannot be written \(Read-only file system\)"):
        write_json(tmp_path / "r.json", {})


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "\u6f22" * 83 + ".json", "." + "y" * 254])
def test_a_name_as_long_as_the_disk_allows_is_written(tmp_path, name):
    with published(tmp_path / name) as aside:
        assert aside.suffix == (Path(name).suffix or ".partial")
        aside.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_is_told_to_be(tmp_path):
    with pytest.raises(TargetError, match="its name is too long; shorten the name"):
        write_json(tmp_path / f"{'x' * 252}.json", {})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_one_left_half_written_is_cleared_where_nobody_can_be_writing_it(tmp_path):
    below = tmp_path / "encoders" / "image"
    below.mkdir(parents=True)
    old, new = tmp_path / ".p.safetensors.7.partial.safetensors", tmp_path / ".q.safetensors.8.partial.safetensors"
    deep = below / ".w.safetensors.9.partial.safetensors"
    for left in (old, new, deep):
        left.write_text("half")
    os.utime(old, (1, 1))
    clear_left_behind(tmp_path)
    assert (old.exists(), new.exists(), deep.exists()) == (False, True, True)
    with held(tmp_path):
        assert (new.exists(), deep.exists()) == (False, False)
