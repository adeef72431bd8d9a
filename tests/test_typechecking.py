"""While testing, all functions' types are checked, and shapes where an annotation tells of them."""

from __future__ import annotations

from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import Float, TypeCheckError

from tests.typechecking import has_no_arrays

Series = Float[np.ndarray, "N"]
checked = jaxtyping.jaxtyped(typechecker=beartype(conf=BeartypeConf(violation_type=TypeError)))


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
