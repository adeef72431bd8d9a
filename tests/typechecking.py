"""Lets jaxtyping check functions that tell of arrays' shapes; types of all others are checked by beartype alone.

jaxtyping's hook puts its own wrapper around every function of the package, which costs some twenty microseconds a call,
several frames, and twice the time of importing; and most functions name no array. So a function gets its checks when it
is first called, and once a test has called it often, only some of that test's calls are checked.

TorchScript reads functions as they were written: those are left as they are.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any, get_args

import jaxtyping
from jaxtyping import AbstractArray

_thorough = jaxtyping.jaxtyped
_SCRIPTED = "vaprompt.model.loops"
"""The module of what TorchScript reads."""
ALL_OF = 50
"""Calls of one function by one test that are all checked."""
ONE_OF = 16
"""Of those that follow, so many go by for each that is checked."""


@dataclass
class _Calls:
    """Of what is written in one place: functions within others are many, made by every call of theirs."""

    by_test: int = 0
    count: int = 0
    without_arrays: bool | None = None

    def next_is_checked(self) -> bool:
        if self.by_test != _test:
            self.by_test, self.count = _test, 0
        self.count += 1
        return self.count <= ALL_OF or self.count % ONE_OF == 0


_test = 0
_calls: dict[CodeType, _Calls] = {}


def begin_test() -> None:
    """Check every function's next calls anew."""
    global _test
    _test += 1


def check_shapes_where_there_are_some() -> None:
    """Replace the decorator that the hook puts on everything; to be called before the package is imported."""
    jaxtyping.jaxtyped = _sparing
    _let_warnings_be()


def _let_warnings_be() -> None:
    """Keep beartype from listening to all warnings of the process while it writes a function's checks.

    A first call may be any thread's; where two threads rearrange what happens to warnings, each puts back what it
    found, in the midst of the other or behind it: what a test or the package asked for is undone.
    """
    importlib.import_module("beartype.claw")  # the whole of it
    for name, module in list(sys.modules.items()):
        if name.startswith("beartype.") and getattr(module, "catch_warnings", None) is warnings.catch_warnings:
            module.catch_warnings = _heard


@contextmanager
def _heard(**_: object) -> Iterator[list[warnings.WarningMessage]]:
    """Stand in for `warnings.catch_warnings`, and hear nothing: warnings go where they would."""
    yield []


def _sparing(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(what: Any) -> Any:
        if what.__module__ == _SCRIPTED:
            return what
        # Servers ask a function whether it is to be awaited: a plain one around it would say no.
        if not inspect.isfunction(what) or inspect.iscoroutinefunction(what) or inspect.isasyncgenfunction(what):
            return _thorough(what, typechecker=typechecker)
        return now_and_then(what, typechecker=typechecker)

    return decorate


def now_and_then(function: Callable[..., Any], *, typechecker: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function of which the first calls in each test are checked, and then some."""
    calls = _calls.setdefault(function.__code__, _Calls())
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal checked
        if not calls.next_is_checked():
            return function(*arguments, **named)
        if checked is None:
            if calls.without_arrays is None:
                calls.without_arrays = has_no_arrays(function)
            plain = calls.without_arrays
            checked = typechecker(function) if plain else _thorough(function, typechecker=typechecker)
        return checked(*arguments, **named)

    return call


def has_no_arrays(function: Any) -> bool:
    """Say whether no annotation of a function tells of an array's shape or type.

    What cannot be read, as it is for mypy alone or names something that is not there, counts as if it did; only the
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
