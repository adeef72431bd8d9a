"""The lines that are said to have run are those that a tracer sees; what the marked code does is unchanged."""

from __future__ import annotations

import ast
import sys

import pytest
from coverage import Coverage

from tests import lines

SOURCE = '''"""A module."""
from __future__ import annotations

import functools
import re as expressions


class Room:
    """A class."""

    __own = 2
    size: int = 3

    @functools.cached_property
    @functools.wraps(
        len
    )
    def half(self):
        """A function."""
        return self.__own

    def never(self):
        return 1


def tried(call):
    try:
        return call()
    except KeyError:
        return "key"
    except (
        ValueError,
        TypeError,
    ) as error:
        return type(error).__name__
    finally:
        size = 1


def bare(call):
    try:
        call()
    except:
        return "bare"
    else:
        return "else"


def matched(what):
    match what:
        case 1:
            return "one"
        case [_, *rest] if rest:
            return "many"
        case str():
            return "text"


def counted(most):
    found = []
    for number in range(most):
        if number == 1:
            continue
        elif number > 3:
            break
        else:
            found.append(number)
    else:
        found.append("all")
    while found and found[-1] == "all":
        found.pop()
    with open(
        __file__
    ) as file:
        found.append(file.name == __file__)
    yield from (
        number
        for number in found
    )


def fail(error):
    raise error


results = [
    Room().half,
    tried(lambda: "fine"),
    tried(lambda: fail(TypeError())),
    bare(lambda: fail(OSError())),
    matched([1, 2]),
    matched("word"),
    list(counted(3)),
    list(counted(9)),
]
try:
    tried(lambda: fail(OSError()))
except OSError as error:
    results.append(error.__traceback__.tb_next.tb_lineno)
if not results:
    results = None
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a module's path; marks that it leaves are forgotten."""
    monkeypatch.setattr(lines, "_marks", {})
    path = tmp_path / "sample.py"
    path.write_text(SOURCE)
    return path


def traced(path) -> tuple[set[int], list]:
    """Return the lines of which Python's own tracing tells, and what the code found."""
    found: set[int] = set()

    def trace(frame, event, argument):
        if frame.f_code.co_filename != str(path):
            return None
        found.add(frame.f_lineno)
        return trace

    names, before = {"__name__": "sample", "__file__": str(path)}, sys.gettrace()
    code = compile(path.read_text(), path, "exec")
    sys.settrace(trace)
    try:
        exec(code, names)
    finally:
        sys.settrace(before)
    return found, names["results"]


def marked(path) -> tuple[list[int], list]:
    """Return the lines that left a mark, and what the code found."""
    tree = ast.parse(path.read_text())
    lines.put_marks(tree)
    names = {"__name__": "sample", "__file__": str(path)}
    exec(compile(ast.fix_missing_locations(tree), path, "exec"), names)
    return lines.seen()[str(path)], names["results"]


def missing(path, seen) -> list[int]:
    """Return the lines that coverage.py would report."""
    coverage = Coverage(data_file=None, source=[str(path.parent)])
    coverage.get_data().add_lines({str(path): seen})
    return coverage.analysis2(str(path))[3]


def test_the_lines_are_those_that_a_tracer_sees_and_the_code_does_the_same(module):
    (expected, wanted), (seen, results) = traced(module), marked(module)
    assert results == wanted
    assert missing(module, seen) == missing(module, expected)
    assert [SOURCE.splitlines()[line - 1].strip() for line in missing(module, seen)] == [
        "return 1",
        'return "key"',
        'return "else"',
        'return "one"',
        "results = None",
    ]
