"""Lets jaxtyping check functions that tell of arrays' shapes; types of all others are checked by beartype alone.

jaxtyping's hook puts its own wrapper around every function of the package, which costs some twenty microseconds a call,
several frames, and twice the time of importing; and most functions name no array. What is checked is the same.

TorchScript reads functions as they were written: those are left as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from jaxtyping import AbstractArray

_thorough = jaxtyping.jaxtyped
_SCRIPTED = "vaprompt.model.loops"
"""The module of what TorchScript reads."""


def check_shapes_where_there_are_some() -> None:
    """Replace the decorator that the hook puts on everything; to be called before the package is imported."""
    jaxtyping.jaxtyped = _sparing


def _sparing(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(what: Any) -> Any:
        if what.__module__ == _SCRIPTED:
            return what
        plain = inspect.isfunction(what) and has_no_arrays(what)
        return typechecker(what) if plain else _thorough(what, typechecker=typechecker)

    return decorate


def has_no_arrays(function: Any) -> bool:
    """Say whether no annotation of a function tells of an array's shape or type.

    What cannot be read, as it is for mypy alone or names something that is not there yet, counts as if it did; only the
    classes that the function itself stands in may be missing.
    """
    own = dict.fromkeys(function.__qualname__.split("."), object)
    try:
        annotations = inspect.get_annotations(function, locals=own, eval_str=True)
    except (NameError, AttributeError, TypeError):
        return False
    return not any(map(_is_of_arrays, annotations.values()))


def _is_of_arrays(annotation: Any) -> bool:
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    parts = annotation if isinstance(annotation, list) else get_args(annotation)  # a list: of a Callable
    return any(map(_is_of_arrays, parts))
