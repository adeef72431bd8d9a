"""While testing, all functions' types are checked, and shapes where an annotation tells of them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import Float, TypeCheckError

from tests.typechecking import ALL_OF, ONE_OF, begin_test, has_no_arrays, now_and_then

Series = Float[np.ndarray, "N"]
checker = beartype(conf=BeartypeConf(violation_type=TypeError))
checked = jaxtyping.jaxtyped(typechecker=checker)


def alike(left_N: Series, right_N: Float[np.ndarray, "N"]) -> bool:
    return True


def within(series: dict[str, list[Series]], of: Callable[[Series], str]) -> None:
    pass


def unknown(number: int) -> Unheard:
    return number


class Room:
    def plain(self, number: int, other: Room | None = None) -> str:
        return str(number) if number else number


@pytest.mark.parametrize("function", [alike, within, unknown], ids=lambda function: function.__name__)
def test_functions_that_name_arrays_are_told_from_others(function):
    assert not has_no_arrays(function)
    assert has_no_arrays(Room.plain)


def test_shapes_must_agree():
    assert checked(alike)(np.zeros(3), np.zeros(3))
    with pytest.raises(TypeCheckError):
        checked(alike)(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize("arguments", [("1",), (1, "other"), (0,)], ids=["argument", "own class", "answer"])
def test_types_must_hold(arguments):
    plain = checked(Room.plain)
    assert plain(Room(), 1, Room()) == "1"
    with pytest.raises(TypeError, match="type hint"):
        plain(Room(), *arguments)


def test_a_tests_first_calls_are_all_checked_and_then_some():
    def half(series_N: Series) -> Series:
        return series_N / 2

    def length() -> int:
        return 1.5

    for function, arguments, fault in ((half, (np.zeros((2, 2)),), TypeCheckError), (length, (), TypeError)):
        sampled = now_and_then(function, typechecker=checker)
        for _ in range(2):
            begin_test()
            found = []
            for _ in range(ALL_OF + 2 * ONE_OF):
                try:
                    sampled(*arguments)
                except fault:
                    found.append(True)
                else:
                    found.append(False)
            assert all(found[:ALL_OF])
            assert sum(found[ALL_OF:]) == 2


def test_functions_made_anew_by_every_call_count_as_one():
    def make(answer):
        def within() -> int:
            return answer

        return now_and_then(within, typechecker=checker)

    begin_test()
    assert all(make(number)() == number for number in range(ALL_OF))
    assert make("one")() == "one"
    begin_test()
    with pytest.raises(TypeError, match="type hint"):
        make("one")()


def test_writing_checks_rearranges_no_warnings():
    def plain(number: int, others: list[str]) -> int:
        return number + len(others)

    entered = []
    begin_test()
    run = now_and_then(plain, typechecker=checker)
    of_warnings = warnings.catch_warnings.__enter__.__code__
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: entered.append(frame) if frame.f_code is of_warnings else None)
    try:
        assert run(1, ["a"]) == 2
    finally:
        sys.setprofile(before)
    assert not entered
    with pytest.raises(TypeError, match="type hint"):
        run("1", ["a"])


def test_the_packages_own_functions_are_checked():
    from vaprompt.metrics import ccc

    with pytest.raises(TypeCheckError):
        ccc([0.0, 1.0], np.arange(2.0))
