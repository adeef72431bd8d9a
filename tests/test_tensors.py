"""Tensors on disk have the rights and the errors of any other file."""

import os

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vaprompt import tensors
from vaprompt.errors import TargetError
from vaprompt.files import published
from vaprompt.tensors import unreadable, write_tensors


@pytest.mark.parametrize("of", [np.ones(3, np.float32), torch.ones(3)])
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_them_is_the_umasks_to_say(tmp_path, of, umask, mode):
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "t.safetensors", {"one": of}, {"about": "it"})
    finally:
        os.umask(before)
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o777 == mode
    assert load_file(tmp_path / "t.safetensors")["one"].tolist() == [1, 1, 1]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_arrays", full)
    with (
        pytest.raises(TargetError, match=r"t\.safetensors: cannot be written \(No space left on device\)"),
        published(tmp_path / "t.safetensors") as aside,
    ):
        write_tensors(aside, {"one": np.ones(3)})
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_told_apart_from_what_is_not_there(tmp_path):
    (tmp_path / "folder").mkdir()
    assert unreadable(tmp_path / "folder") == "cannot be read (Is a directory)"
    assert unreadable(tmp_path / "none") == "cannot be read (No such file or directory)"
    write_tensors(tmp_path / "t.safetensors", {"one": np.ones(3)})
    assert unreadable(tmp_path / "t.safetensors") is None
