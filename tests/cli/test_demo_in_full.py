"""The demo as `make demo` runs it, at its full size."""

import json
import time
from pathlib import Path

import pytest

from tests.cli.calling import call_process


@pytest.mark.slow
def test_the_demo_scores_well_on_people_nobody_has_seen_and_makes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # the tests' one thread is not what a user has
    target = tmp_path / "demo"
    outcome = call_process("demo", target, "--json")
    assert outcome.code == 0, outcome.err
    scores = outcome.json["evaluation"]
    assert scores["official"]["mean"] >= 0.75
    assert scores["official"]["mean"] > scores["ridge"]["official"]["mean"]

    start = time.perf_counter()
    again = call_process("demo", target, "--json")
    took = time.perf_counter() - start
    assert again.code == 0, again.err
    assert again.json["extraction"]["done"] == []
    assert again.json["training"]["trained"] is False
    assert again.json["evaluation"]["official"] == scores["official"]
    assert took < 60
    assert json.loads((target / "run" / "evaluation.json").read_text())["official"] == scores["official"]
