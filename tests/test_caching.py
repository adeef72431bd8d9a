"""What is remembered is what was found out, for just that question; and forgetting does no harm."""

import os

import pytest

from vaprompt.caching import cache_folder, remembered


@pytest.fixture(autouse=True)
def own(cache):
    """Remember nothing from elsewhere."""


def asked(about, answer):
    """Return what is remembered, and whether the question was asked at all."""
    questions = []

    def find_out():
        questions.append(about)
        return answer

    return remembered(about, find_out), bool(questions)


def test_a_question_is_asked_once():
    assert asked({"model": "a", "n": 1}, [1.5, None, {"x": "y"}]) == ([1.5, None, {"x": "y"}], True)
    assert asked({"n": 1, "model": "a"}, "other") == ([1.5, None, {"x": "y"}], False)
    assert asked({"model": "a", "n": 2}, "other") == ("other", True)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"about": {"a": 2}, "fact": 7}', b"\xff" * 9])
def test_what_is_damaged_is_asked_again(damage):
    asked({"a": 1}, 5)
    (file,) = cache_folder().rglob("*.json")
    file.write_bytes(damage)
    assert asked({"a": 1}, 5) == (5, True)
    assert asked({"a": 1}, 5) == (5, False)


def test_nothing_is_kept_of_a_question_that_fails():
    with pytest.raises(KeyError):
        remembered({"a": 1}, lambda: {}["missing"])
    assert asked({"a": 1}, 5) == (5, True)


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VAPROMPT_CACHE", os.fspath(tmp_path / "file" / "cache"))
    assert asked({"a": 1}, 5) == (5, True)
    assert asked({"a": 1}, 5) == (5, True)
