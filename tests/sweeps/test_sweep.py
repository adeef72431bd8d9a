"""A sweep leaves what each training alone would leave, side by side or not, stopped or not, and says what failed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from contextlib import closing
from pathlib import Path

import pytest
import torch

from tests.planted import plant_store
from tests.sweeps.conftest import GRID, SHARED, contents, described, handed_out
from vaprompt.cli.tell_sweep import print_sweep
from vaprompt.errors import MissingStreamError, RunError, StoreError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.sweeps import pool, work
from vaprompt.sweeps import sweep as sweeping
from vaprompt.sweeps.board import Board, Nobody
from vaprompt.sweeps.dispatch import dispatch
from vaprompt.sweeps.pool import Processes
from vaprompt.sweeps.sweep import jobs_of, run_sweep
from vaprompt.sweeps.variants import read_sweep
from vaprompt.sweeps.work import Work
from vaprompt.training.run import train

ROOT = Path(__file__).parents[2]


def test_each_run_is_the_one_that_training_and_scoring_alone_would_leave(store, swept, tmp_path):
    assert [one.state for one in swept.found] == ["done"] * 4
    one = swept.found[2]
    train(store, one.variant.recipe, tmp_path / "run", device="cpu")
    result = evaluate(tmp_path / "run", device="cpu").result
    assert contents(tmp_path / "run") == contents(one.variant.run)
    assert one.scores["official"] == result["official"]
    assert one.scores["ridge"] == result["ridge"]
    kept = json.loads((one.variant.run.parent / "sweep.json").read_text())
    assert [line["official"] for line in kept["variants"]] == [found.scores["official"] for found in swept.found]


@pytest.mark.parametrize(("long", "workers"), [(1000.0, 4), (2000.0, 2)])
def test_a_core_trains_for_itself_where_that_is_worth_a_process(store, tmp_path, monkeypatch, long, workers):
    class AskedError(Exception):
        """So many workers were asked for."""

    def asked(work, count):
        raise AskedError(count)

    # 7 videos of 16 s, 3 epochs and 4 variants make 1,344 s.
    monkeypatch.setattr(sweeping, "LONG", long)
    monkeypatch.setattr(sweeping, "cores", lambda: 4)
    monkeypatch.setattr(sweeping, "_local", asked)
    with pytest.raises(AskedError) as error:
        run_sweep(store, described(tmp_path, GRID), tmp_path / "runs", device="cpu")
    assert error.value.args == (workers,)


def test_what_is_there_is_not_made_again_and_what_is_missing_is(store, swept, tmp_path, monkeypatch):
    sweep = described(tmp_path, GRID)
    shutil.copytree(swept.sweep.variants[0].run.parent, tmp_path / "runs")
    first, second = sweep.variants[:2]
    shutil.rmtree(first.run)
    (second.run / "evaluation.json").unlink()
    trained = []
    monkeypatch.setattr(
        work, "train", lambda store, recipe, run, **rest: trained.append(run) or train(store, recipe, run, **rest)
    )
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu")
    assert trained == [first.run]
    assert result.trained == 2
    assert [contents(one.variant.run) for one in result.found] == [contents(one.variant.run) for one in swept.found]
    monkeypatch.setattr(work, "train", None)
    assert run_sweep(store, sweep, tmp_path / "runs", device="cpu").trained == 0


def test_scores_made_otherwise_than_a_sweep_makes_them_are_made_again_and_never_told(store, swept, tmp_path):
    other = plant_store(tmp_path / "other.zarr", train=4, validation=3, seconds=16.0, seed=5)
    sweep = described(tmp_path, GRID)
    shutil.copytree(swept.sweep.variants[0].run.parent, tmp_path / "runs")
    runs = [variant.run for variant in sweep.variants]
    evaluate(runs[0], split="train", device="cpu")
    evaluate(runs[1], store=other, device="cpu")
    evaluate(runs[2], every=2, device="cpu")
    (runs[3] / "evaluation.json").write_text("{")
    untold = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False).found
    assert [one.scores for one in untold] == [None] * 4
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu")
    assert result.trained == 4
    assert [one.scores["official"] for one in result.found] == [one.scores["official"] for one in swept.found]
    # However the store is named.
    named = os.path.relpath(store), store.absolute().as_uri()
    assert [run_sweep(each, sweep, tmp_path / "runs", device="cpu").trained for each in named] == [0, 0]


@pytest.mark.slow
def test_killed_at_any_time_it_ends_like_an_undisturbed_one(store, swept, tmp_path):
    sweep = described(tmp_path, GRID)
    command = [sys.executable, "-m", "vaprompt", "sweep", store, sweep.source, "--runs", tmp_path / "runs"]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--workers", "2"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120  # a thread that waits for a busy disk ends when that answers
    while _alive_in_session(process.pid) and time.monotonic() < deadline:  # its workers end with it
        time.sleep(0.02)
    assert not _alive_in_session(process.pid), _told_of(process.pid)
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", workers=1)
    assert [(one.variant.label, one.reason) for one in result.failed] == []
    assert {one.variant.label: contents(one.variant.run) for one in result.found} == {
        one.variant.label: contents(one.variant.run) for one in swept.found
    }


def _alive_in_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            # The first thread of a process can be gone while others still hold its files.
            ended = fields[0] == "Z" and len(list((entry.parent / "task").iterdir())) < 2
        except OSError:
            continue
        if not ended and int(fields[3]) == session and "resource_tracker" not in _command_of(entry.parent):
            found.append(int(entry.parent.name))
    return found


def _told_of(session: int) -> list[str]:
    return [
        f"{one.parent.name} {one.name} {name}: {(one / name).read_text().strip()}"
        for pid in _alive_in_session(session)
        for one in Path(f"/proc/{pid}/task").iterdir()
        for name in ("stat", "wchan")
    ]


def _command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return "resource_tracker"  # it has just ended


@pytest.mark.slow
def test_workers_side_by_side_leave_the_same_bytes_even_if_one_is_killed(store, swept, tmp_path):
    sweep = described(tmp_path, GRID)
    said = []

    class Listening(Nobody):
        def say(self, text):
            said.append(text)

    class Killing(Processes):
        def give(self, job):
            super().give(job)
            if not said and job.variants[0] is sweep.variants[2]:
                doomed = next(worker for worker in self._workers if worker.job is job)
                os.kill(doomed.process.pid, signal.SIGKILL)

    shared = Work(str(store), "cpu", cores=1)
    with handed_out(sweep) as source, closing(Killing(shared, 2)) as workers:
        outcomes = dispatch(source, workers, Board(sweep.variants), Listening())
    assert sorted(outcome.variant.label for outcome in outcomes) == sorted(one.label for one in sweep.variants)
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert said == [f"{sweep.variants[2].label}: its worker is gone; another one goes on with it"]
    for ours, theirs in zip(sweep.variants, swept.sweep.variants, strict=True):
        assert contents(ours.run) == contents(theirs.run)


def test_a_job_over_which_workers_keep_dying_fails_and_the_others_go_on(store, tmp_path):
    sweep = described(tmp_path, GRID)
    doomed = sweep.variants[0]

    class Dying(pool.Alone):
        def ended(self, seconds):
            job, self._job = self._job, None
            lost = job.variants[0] is doomed
            return [pool.Ended(job, None if lost else [work.Outcome(job.variants[0], "done")])]

    board = Board(sweep.variants)
    shared = Work(str(store), "cpu")
    with handed_out(sweep) as source:
        outcomes = dispatch(source, Dying(shared), board, Nobody())
    states = {outcome.variant.label: outcome.state for outcome in outcomes}
    assert states == {one.label: "failed" if one is doomed else "done" for one in sweep.variants}
    (row,) = [row for row in board.rows() if row.state == "failed"]
    assert "2 workers died over it" in row.reason


def test_a_variant_that_fails_is_told_and_the_others_go_on(store, tmp_path, capsys):
    text = SHARED + "[grid]\noptimiser.learning_rate = [1e-3, 1.0]\noptimiser.weight_decay = [0.0, 1e-4]\n"
    sweep = described(tmp_path, text, "optimiser.weight_decay=0")
    (sweep.variants[1].run).mkdir(parents=True)
    (sweep.variants[1].run / "something.txt").write_text("not a run")
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", score=False)
    assert [one.state for one in result.found] == ["done", "failed", "done", "done"]
    assert "is not empty and holds no run" in result.failed[0].reason
    assert result.trained == 3
    print_sweep(result)
    assert re.search(r"^3 variants trained in .*, 1 failed$", capsys.readouterr().out, re.MULTILINE)


class Big:
    """What a training holds while it computes."""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (MemoryError, ""),
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2 GiB"),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("place", ["Resident", "train", "evaluate"])
def test_memory_that_ends_with_one_variant_ends_no_other_and_is_free_again(
    store, swept, tmp_path, monkeypatch, kind, said, place
):
    sweep = described(tmp_path, GRID)
    shutil.copytree(swept.sweep.variants[0].run.parent, tmp_path / "runs")
    doomed = sweep.variants[1].run
    if place == "evaluate":
        (doomed / "evaluation.json").unlink()
    else:
        shutil.rmtree(doomed)
    held = []

    def overflow(*args, **rest):
        big = Big()
        held.append(weakref.ref(big))
        raise kind(said)

    monkeypatch.setattr(work, place, overflow)
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu")
    assert [one.state for one in result.found] == ["done", "failed", "done", "done"]
    assert "does not suffice" in result.failed[0].reason
    assert "lower compute.at_once, batch, model.width" in result.failed[0].reason
    assert [big() for big in held] == [None]


def test_memory_that_ends_with_a_stack_leaves_its_variants_to_be_trained_singly(store, tmp_path, monkeypatch):
    def overflow(*args, **rest):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(work, "train_stacked", overflow)
    sweep = described(tmp_path, "seeds = [0, 1]\n" + SHARED.replace("epochs = 3", "epochs = 1"))
    result = run_sweep(store, sweep, tmp_path / "runs", device="cpu", stack="always", score=False)
    assert [one.state for one in result.found] == ["done"] * 2


def test_workers_are_counted_before_they_are_left(store, swept, tmp_path, monkeypatch):
    class Left(pool.Alone):
        gone = False

        @property
        def count(self):
            assert not self.gone, "a cluster that is left cannot be asked"
            return 1

        def close(self):
            self.gone = True

    monkeypatch.setattr(sweeping, "_local", lambda work, count: Left(work))
    shutil.copytree(swept.sweep.variants[0].run.parent, tmp_path / "runs")
    assert run_sweep(store, described(tmp_path, GRID), tmp_path / "runs", device="cpu").workers == 1


def test_what_is_wrong_for_all_is_said_once_before_or_instead_of_any_training(store, swept, tmp_path):
    sweep = described(tmp_path, GRID, "stream=nobody")
    with pytest.raises(MissingStreamError, match="has no stream 'nobody'"):
        run_sweep(store, sweep, tmp_path / "runs", device="cpu")
    assert not list((tmp_path / "runs").iterdir())
    with pytest.raises(StoreError, match=r"store\.zarr: holds no text embedding of 'a photo of a person who looks unh"):
        run_sweep(
            store,
            described(tmp_path, GRID, 'regions.phrases=["unheard of"]', "regions.valence=[0]", "regions.arousal=[0]"),
            tmp_path / "runs",
            device="cpu",
        )
    other = plant_store(tmp_path / "other.zarr", train=2, validation=0, seconds=10.0)
    with pytest.raises(StoreError, match="no video of the validation split"):
        run_sweep(other, described(tmp_path, GRID), tmp_path / "other", device="cpu")
    shutil.copytree(swept.sweep.variants[0].run.parent, tmp_path / "theirs")
    (tmp_path / "sweep.toml").write_text(GRID.replace("epochs = 3", "epochs = 4"))
    changed = read_sweep(tmp_path / "sweep.toml", tmp_path / "theirs")
    with pytest.raises(RunError, match="holds a run that differs in epochs"):
        run_sweep(store, changed, tmp_path / "theirs", device="cpu")


def test_stacked_variants_become_what_they_become_alone(store, swept, tmp_path):
    result = run_sweep(store, described(tmp_path, GRID), tmp_path / "runs", device="cpu", stack="always")
    assert [one.state for one in result.found] == ["done"] * 4
    for ours, theirs in zip(result.found, swept.found, strict=True):
        assert json.loads((ours.variant.run / "run.json").read_text())["made_by"]["stack"] == 2
        for axis in ("valence", "arousal"):
            assert ours.scores["official"][axis] == pytest.approx(theirs.scores["official"][axis], abs=5e-3)


def test_only_variants_of_one_architecture_are_stacked_and_on_a_processor_none_unless_asked(store, tmp_path):
    variants = described(tmp_path, GRID).variants
    kinds = [[one.recipe.model.temporal.kind for one in job.variants] for job in jobs_of(variants, "always", "cpu")]
    assert sorted(kinds) == [["gru", "gru"], ["tcn", "tcn"]]
    # Two are faster one after the other on a GPU, and more are not.
    assert [len(job.variants) for job in jobs_of(variants, "auto", "cuda")] == [1] * 4
    assert [len(job.variants) for job in jobs_of([*variants, *variants], "auto", "cuda")] == [4, 4]
    for stack in ("auto", "never"):
        assert [len(job.variants) for job in jobs_of(variants, stack, "cpu")] == [1] * 4
