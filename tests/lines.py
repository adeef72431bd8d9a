"""A plugin of pytest that finds which lines of the package ran, and prints what coverage.py makes of them.

Python 3.11 tells a tracer of every line of every library, and runs all of them in its slow mode meanwhile: with
coverage.py's own tracer the tests took two thirds longer. Here every statement of the package, and of nothing else,
leaves a mark in an array of bytes as it begins, which is put there by the import hook that lets types be checked.

    python -m pytest -p tests.lines

Like coverage.py's, the figures are of the tests' own processes alone.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import _import_hook

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vaprompt"
_MARKS = "__lines__"
"""The array's name in a module; one that ends in underscores means the same inside of a class."""

_marks: dict[str, bytearray] = {}
_from_workers: dict[str, set[int]] = {}


def marks_of(file: str, lines: int) -> bytearray:
    """Return the array into which a module of so many lines puts its marks, a byte a line."""
    return _marks.setdefault(file, bytearray(lines + 1))


def seen() -> dict[str, list[int]]:
    """Return the lines at which statements began, by file."""
    return {file: [line for line, mark in enumerate(marks) if mark] for file, marks in _marks.items()}


def put_marks(tree: ast.Module) -> None:
    """Let every statement of a module say that it begins, at the line that it stands in."""
    nodes = list(ast.walk(tree))
    last = max((getattr(node, "end_lineno", None) or 0 for node in nodes), default=0)
    for node in nodes:
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list) and statements:
                setattr(node, field, list(_with_marks(node, statements)))
    for node in nodes:
        if isinstance(node, ast.ExceptHandler):
            _mark_handler(node)
        elif isinstance(node, ast.Match):
            _mark_cases(node)
    ahead = [statement for at, statement in enumerate(tree.body) if _stays_ahead(tree, at, statement)]
    made = f"{_MARKS} = __import__({__name__!r}, fromlist=['marks_of']).marks_of(__file__, {last})"
    tree.body[len(ahead) : len(ahead)] = [*ast.parse(made).body, *(_mark(statement.lineno) for statement in ahead)]


def _with_marks(owner: ast.AST, statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    for at, statement in enumerate(statements):
        if not _stays_ahead(owner, at, statement):
            decorators = getattr(statement, "decorator_list", [])
            yield from (_mark(node.lineno) for node in (statement, *decorators))
        yield statement


def _stays_ahead(owner: ast.AST, at: int, statement: ast.stmt) -> bool:
    """Say whether a statement means something only in front of all others: documentation, or what is to come."""
    documented = isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return (documented and at == 0 and text) or (
        isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
    )


def _mark_handler(handler: ast.ExceptHandler) -> None:
    """Let a handler say that it was asked, whether or not it then takes the error."""
    if handler.type is None:
        handler.body.insert(0, _mark(handler.lineno))
        return
    asked = ast.parse(f"({_MARKS}.__setitem__({handler.lineno}, 1), None)[1]", mode="eval").body
    assert isinstance(asked, ast.Subscript)
    assert isinstance(asked.value, ast.Tuple)
    _place(asked, handler.lineno)
    asked.value.elts[1], handler.type = handler.type, asked


def _mark_cases(match: ast.Match) -> None:
    """Let a case say that those before it were asked, too."""
    for count, case in enumerate(match.cases, 1):
        case.body[:0] = [_mark(before.pattern.lineno) for before in match.cases[:count]]


def _mark(line: int) -> ast.stmt:
    (mark,) = ast.parse(f"{_MARKS}[{line}] = 1").body
    return _place(mark, line)


def _place(what: ast.stmt | ast.expr, line: int) -> Any:
    for node in ast.walk(what):
        if "lineno" in node._attributes:
            node.lineno = node.end_lineno = line
    return what


class _Marking(_import_hook.JaxtypingTransformer):
    def visit_Module(self, node: ast.Module) -> Any:
        put_marks(node)
        return super().visit_Module(node)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Put marks into what jaxtyping's hook imports from here on, and keep the byte code beside the other."""
    version, original = hashlib.md5(Path(__file__).read_bytes()).hexdigest(), _import_hook.Typechecker.get_hash
    _import_hook.JaxtypingTransformer = _Marking
    _import_hook.Typechecker.get_hash = lambda self: original(self) + version


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what a worker has seen."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = seen()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has seen; one that crashed has nothing to say."""
    for file, lines in getattr(node, "workeroutput", {}).get("lines", {}).items():
        _from_workers.setdefault(file, set()).update(lines)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures, and leave them in `.coverage` for coverage.py's other reports."""
    from coverage import Coverage

    coverage = Coverage(data_file=ROOT / ".coverage", source=[str(PACKAGE)], messages=False)
    coverage.erase()
    data = coverage.get_data()
    data.add_lines(seen())
    data.add_lines(_from_workers)
    data.touch_files([str(path) for path in sorted(PACKAGE.rglob("*.py"))])
    coverage.save()
    terminalreporter.section("coverage")
    coverage.report(file=terminalreporter, skip_covered=True)
