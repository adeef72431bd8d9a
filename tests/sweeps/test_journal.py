"""What a search remembers lies in its journal, which bears kills, full disks and what it cannot read."""

import errno
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from tests.sweeps.conftest import SEARCH, described, tried
from vaprompt.errors import RecipeError, RunError, TargetError
from vaprompt.sweeps import journal, search
from vaprompt.sweeps.sweep import run_sweep

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_stopped_before_any_line_of_its_journal_it_ends_the_same(store, tmp_path, monkeypatch):
    text = SEARCH.replace("TRIALS", "2").replace("epochs = 2", "epochs = 1")
    whole = described(tmp_path / "whole", text)
    undisturbed = tried(run_sweep(store, whole, tmp_path / "whole" / "runs", device="cpu", score=False))
    lines = len((tmp_path / "whole" / "runs" / "search.journal").read_text().splitlines())
    assert lines > 5
    append = JournalFileBackend.append_logs

    def interrupted(journal, logs):
        if next(before, None) is None:
            raise KeyboardInterrupt
        append(journal, logs)

    for line in range(lines):
        sweep, runs = described(tmp_path / f"{line}", text), tmp_path / f"{line}" / "runs"
        before = iter(range(line))
        with monkeypatch.context() as patched:
            patched.setattr(JournalFileBackend, "append_logs", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_sweep(store, sweep, runs, device="cpu", score=False)
        assert tried(run_sweep(store, sweep, runs, device="cpu", score=False)) == undisturbed


def test_a_line_of_its_journal_that_was_cut_off_is_written_again(store, searched, tmp_path):
    sweep, runs = described(tmp_path, SEARCH.replace("TRIALS", "4")), tmp_path / "runs"
    run_sweep(store, sweep, runs, device="cpu", score=False)
    whole = (runs / "search.journal").read_bytes()
    (runs / "search.journal").write_bytes(whole[: whole.rindex(b'"values"') + 4])
    more = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    assert tried(run_sweep(store, more, runs, device="cpu", score=False)) == tried(searched)
    assert run_sweep(store, more, runs, device="cpu", score=False).trained == 0


def test_a_disk_that_is_full_is_said_of_the_journal(store, tmp_path, monkeypatch):
    def full(journal, logs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "1"))
    with pytest.raises(TargetError, match=r"search\.journal: cannot be written \(No space left on device\)"):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")


KILLED_AS_IT_WRITES = """
import os, signal, sys
from optuna.storages.journal import JournalFileBackend, _file
from vaprompt.cli.main import main

append = JournalFileBackend.append_logs


def killed(journal, logs):
    if "intermediate_value" not in logs[0]:
        return append(journal, logs)
    with _file.get_lock_file(journal._lock), open("runs/search.journal", "a") as file:
        print('{"op_code":7,"wor', end="", file=file, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


JournalFileBackend.append_logs = killed
main()
"""


@pytest.mark.slow
def test_killed_as_it_writes_its_journal_it_goes_on(store, searched, tmp_path, monkeypatch):
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "5"))
    options = ["sweep", str(store), "sweep.toml", "--runs", "runs", "--workers", "1", "--no-score", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_AS_IT_WRITES, *options], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == -9
    assert os.path.lexists(tmp_path / "runs" / "search.journal.lock")
    monkeypatch.setattr(journal, "GRACE", 3)
    monkeypatch.chdir(tmp_path)
    assert tried(run_sweep(store, sweep, Path("runs"), device="cpu", score=False)) == tried(searched)


def test_a_damaged_journal_and_a_missing_package_are_one_line(store, tmp_path, monkeypatch):
    sweep = described(tmp_path, SEARCH.replace("TRIALS", "1"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "search.journal").write_text('{"op_code": "nonsense"}\n')
    with pytest.raises(RunError, match="cannot be read"):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")
    monkeypatch.setattr(search, "find_spec", lambda name: None if name == "optuna" else importlib.util.find_spec(name))
    with pytest.raises(
        RecipeError, match=r"needs the package optuna; install it with: pip install 'vaprompt\[sweep\]'"
    ):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")
