"""What commands print: JSON that every reader accepts, tables that fit a terminal."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from vaprompt.cli.output import print_json, print_table, score, size
from vaprompt.cli.tell import notes_of_all


@dataclass
class Thing:
    path: Path
    values: tuple[float, ...]


def test_json_has_no_nan_and_knows_our_types(capsys: pytest.CaptureFixture[str]):
    print_json({"thing": Thing(Path("a/b"), (0.5, float("nan"), float("inf"))), "set": {"x"}, 3: "ünicode"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"thing": {"path": "a/b", "values": [0.5, None, None]}, "set": ["x"], "3": "ünicode"}
    assert "ünicode" in shown


def test_a_table_fits_80_columns_and_loses_nothing(capsys: pytest.CaptureFixture[str]):
    long = "sha256 " + "0123456789" * 20
    print_table(("what", "count", "[found]"), [("a [b] c", 12345, long), ("d", None, 0.25)], title="title")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "0123456789" * 20 in "".join(shown.split())
    for text in ("a [b] c", "12,345", "0.250", "[found]", "title"):
        assert text in shown


def test_a_narrow_terminal_cuts_no_number(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("run", "valence", "arousal", "mean"), [("first", 0.027, -0.018, 0.123), ("second", 1.0, 0.5, None)])
    shown = capsys.readouterr().out
    for text in ("run", "first", "second", "valence", "arousal", "0.027", "-0.018", "0.123", "1.000", "0.500"):
        assert text in shown.split()


def test_an_undefined_score_is_no_number():
    assert (score(None), score(float("nan")), score(0.12345)) == ("-", "-", "0.123")


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3.1e9, "3.1 GB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_in_the_unit_that_suits(count: float, shown: str):
    assert size(count) == shown


def test_what_is_remarked_about_all_is_found_and_what_is_said_of_one_alone_stays_there():
    assert notes_of_all([["silence", "drawn"], ["drawn"], ["drawn", "gaps"]]) == ["drawn"]
    assert notes_of_all([["silence"], []]) == []
    assert notes_of_all([["silence"]]) == []
    assert notes_of_all([]) == []
