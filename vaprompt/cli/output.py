"""What commands print on stdout: a JSON object, or tables and lines that fit 80 columns."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH = 80
NARROWEST = 10
"""Columns of a terminal that a column of texts takes at least, if they have so many letters."""
BETWEEN = 3
"""Columns between two."""
CONTROL = ("Cc", "Cs")
"""Unicode's categories of control characters and of lone surrogates, which stand for bytes that are no text."""


def print_json(result: Mapping[str, Any]) -> None:
    """Print `result` as the one JSON object of a command; undefined numbers become null, paths become text."""
    text = json.dumps(_plain(result), indent=2, allow_nan=False, ensure_ascii=False)
    # Bytes in a file's name that are no text are lone surrogates, which no stream takes; JSON can escape them.
    sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, however long: paths are there to be copied."""
    for line in lines:
        sys.stdout.write(f"{printable(line)}\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print a table; numbers stand to the right, long texts wrap within 80 columns.

    In a terminal too narrow for it, the terminal breaks the lines: a number that is cut off is another number.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(_shown(value)) for value in row] for row in rows]
    table = Table(
        box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False, show_edge=False
    )
    needed = -BETWEEN
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        heading, shown = Text(printable(name)), [Text(row[index]) for row in cells]
        longest = max(text.cell_len for text in (heading, *shown))
        least = longest if numeric else min(longest, NARROWEST)
        needed += least + BETWEEN
        table.add_column(
            heading, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric, min_width=least
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, width=max(min(Console().width, WIDTH), needed), highlight=False)
    console.line()
    console.print(table)
    console.line()


def printable(text: str) -> str:
    """Return a text whose control characters, which a terminal might obey, are written as escapes."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in CONTROL else letter
        for letter in text
    )


def score(value: float | None) -> str:
    """Return a CCC to three decimals; a dash where it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:z.3f}"


def size(count: int | float) -> str:
    """Return a number of bytes in the unit that suits it."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:z.3f}" if math.isfinite(value) else "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").removeprefix("-").isdigit()


def _plain(value: Any) -> Any:
    """Return `value` made of what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
