"""Leases: one holder at a time, no dead one for ever, no live one robbed, whatever the clocks say."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.store.stores import IMAGE, filled
from vaprompt.errors import StoreError, TargetError
from vaprompt.store import FeatureStore, leases
from vaprompt.store.leases import present

BEGINNING = """
import json, os, signal, sys
from pathlib import Path
from vaprompt.store import leases
json.dump = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with leases.present(Path(sys.argv[1])):
    pass
"""

HOLDER = """
import sys, time
from pathlib import Path
from vaprompt.store.leases import present
with present(Path(sys.argv[1])) as leases:
    print(leases.acquire("video a"), leases.writer, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def quick(monkeypatch):
    """Let leases run out within a test's time."""
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(leases, "PATIENCE", 1.0)


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@contextmanager
def holder(store: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a process that holds `video a`, and yield it and its file."""
    command = [sys.executable, "-c", HOLDER, str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        got, writer = process.stdout.readline().split()
        assert got == "True"
        try:
            yield process, store / ".leases" / f"{writer}.writer"
        finally:
            process.kill()


def test_a_lease_is_held_by_one_until_it_is_given_back(tmp_path):
    with present(tmp_path) as one, present(tmp_path) as other:
        assert one.acquire("video a")
        assert not other.acquire("video a")
        assert other.acquire("video b")
        other.release("video a")  # not its own
        assert not other.acquire("video a")
        one.release("video a")
        assert other.acquire("video a")
        assert not one.acquire("video a")
    assert list(tmp_path.iterdir()) == []


def test_who_leaves_gives_everything_back(tmp_path):
    with present(tmp_path) as one:
        with present(tmp_path) as other:
            assert other.acquire("video a")
            assert not one.acquire("video a")
        assert one.acquire("video a")


def test_a_killed_process_holds_nothing_from_the_moment_it_is_dead(tmp_path):
    with holder(tmp_path) as (process, file), present(tmp_path) as mine:
        assert not mine.acquire("video a")
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 5
        while not mine.acquire("video a"):  # also while nobody has waited for it, and it is a zombie
            assert time.monotonic() < deadline
        assert not file.exists()


def test_a_process_number_used_again_is_another_process(tmp_path):
    with holder(tmp_path) as (_, file), present(tmp_path) as mine:
        assert not mine.acquire("video a")
        change(file, started=json.loads(file.read_text())["started"] - 1)
        assert mine.acquire("video a")


def test_another_users_process_that_cannot_be_looked_at_is_judged_by_its_heartbeat(tmp_path, monkeypatch):
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    (tmp_path / "proc").mkdir()  # as a system shows it that hides others' processes
    store = tmp_path / "s.zarr"
    store.mkdir()
    with holder(store) as (_, file), present(store) as mine:
        with monkeypatch.context() as hidden:
            hidden.setattr(leases, "PROC", tmp_path / "proc")
            hidden.setattr("os.kill", refuse)
            assert not mine.acquire("video a")
            assert file.exists()
        change(file, started=1)  # that can be looked at, and is another one
        with monkeypatch.context() as foreign:
            foreign.setattr("os.kill", refuse)
            assert mine.acquire("video a")


@pytest.mark.parametrize("skew", [-86400 * 3650, 0, 86400 * 3650])
def test_another_hosts_heartbeat_counts_and_its_clock_does_not(tmp_path, quick, skew):
    with present(tmp_path) as other:
        # What the other host writes is as far off as its clock, and its processes cannot be looked for.
        other._ended.set()
        file = tmp_path / ".leases" / f"{other.writer}.writer"
        change(file, host="other", space="another machine", pid=1, started=1)
        assert other.acquire("video a")
        with present(tmp_path) as mine:
            for beat in range(10):
                stamp = time.time_ns() + (skew + beat) * 10**9
                os.utime(file, ns=(stamp, stamp))
                assert not mine.acquire("video a")
                time.sleep(0.1)
            assert not mine.acquire("video a")
            time.sleep(1.1)
            assert mine.acquire("video a")
            with pytest.raises(StoreError, match="took it for dead; run the same command again"):
                other.acquire("video b")


def test_one_process_beats_as_long_as_it_lives(tmp_path, quick):
    with present(tmp_path) as other:
        change(tmp_path / ".leases" / f"{other.writer}.writer", space="another machine")
        assert other.acquire("video a")
        with present(tmp_path) as mine:
            for _ in range(20):
                assert not mine.acquire("video a")
                time.sleep(0.1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 3, "writer": null}'])
def test_a_lease_that_says_nothing_runs_out_by_its_own_age(tmp_path, quick, content):
    with present(tmp_path) as mine:
        mine._lease("video a").write_text(content)
        assert not mine.acquire("video a")
        time.sleep(1.1)
        assert mine.acquire("video a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "../..", "/", "a/../..", ".aside"])
def test_a_hostile_lease_deletes_nothing(tmp_path, quick, name):
    store = filled(tmp_path / "s.zarr")
    before = sorted(store.path.rglob("*"))
    with present(store.path) as mine:
        mine._lease("video a").write_text(json.dumps({"key": "video a", "writer": name}))
        assert not mine.acquire("video a")
        time.sleep(1.1)
        mine.acquire("video a")
    assert sorted(store.path.rglob("*")) == before


@pytest.mark.parametrize("hidden", [".aside", ".leases"])
def test_nothing_is_cleared_away_through_a_symbolic_link(tmp_path, hidden):
    store, precious = filled(tmp_path / "s.zarr"), tmp_path / "precious"
    (precious / "thesis").mkdir(parents=True)
    (store.path / hidden).symlink_to(precious)
    with pytest.raises(StoreError, match="is a symbolic link; delete it"), store.writing():
        pass
    (store.path / hidden).unlink()
    (store.path / ".aside").mkdir()
    (store.path / ".aside" / "image-v1-xyz").symlink_to(precious)
    with store.writing():
        pass
    assert (precious / "thesis").is_dir()
    assert not (store.path / ".aside").exists()


def test_of_many_that_find_a_holder_dead_one_takes_over(tmp_path):
    for _ in range(20):
        leave_dead_holder(tmp_path)
        start, got = threading.Barrier(6, timeout=60), []

        def take(start=start, got=got) -> None:
            with present(tmp_path) as mine:
                start.wait()
                if mine.acquire("video a"):
                    got.append(mine.writer)
                start.wait()

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        assert list(tmp_path.iterdir()) == []


def leave_dead_holder(store: Path) -> None:
    """Leave the files of a killed holder of `video a` in the store."""
    folder = store / ".leases"
    folder.mkdir()
    (store / ".aside" / "gone-1").mkdir(parents=True)
    about = {**leases._here(), "writer": "gone-1", "started": 1}
    (folder / "gone-1.writer").write_text(json.dumps(about))
    lease = leases.Leases(store)._lease("video a")
    lease.write_text(json.dumps({**about, "key": "video a"}))


def test_a_writer_that_died_before_it_said_who_it_is_leaves_nothing(tmp_path):
    """Killed at this moment, it leaves an empty file, of which nobody can tell whose it is."""
    killed = subprocess.run([sys.executable, "-c", BEGINNING, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / ".leases").iterdir()
    assert left.read_bytes() == b""
    with present(tmp_path):
        assert not left.exists()
    assert not (tmp_path / ".leases").exists()


def test_a_writer_that_is_swept_away_while_it_begins_begins_again(tmp_path, monkeypatch):
    write, begun = leases._write_new, []

    def swept(file, content):
        write(file, content)
        begun.append(file)
        if len(begun) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(leases, "_write_new", write)
                with present(tmp_path):
                    assert not file.exists()

    monkeypatch.setattr(leases, "_write_new", swept)
    with present(tmp_path) as mine:
        assert mine.acquire("video a")
    assert not (tmp_path / ".leases").exists()


def test_a_writer_that_comes_or_goes_leaves_the_others_work_alone(tmp_path):
    store, other = filled(tmp_path / "s.zarr"), FeatureStore.open(tmp_path / "s.zarr")
    with store.writing(), store.writer("image", "video2", IMAGE) as writer:
        writer.append(embedding=np.ones((3000, 512), np.float16))
        with other.writing(), other.writer("image", "video3", IMAGE) as another:
            another.append(embedding=np.ones((3, 512), np.float16))
            another.publish({"split": "train"})
        writer.append(embedding=np.ones((3000, 512), np.float16))
        writer.publish({"split": "train"})
    assert FeatureStore.open(store.path).done("image") == {"video1", "video2", "video3"}
    assert not [path for path in store.path.iterdir() if path.name.startswith(".")]


def test_who_was_taken_for_dead_publishes_nothing(tmp_path):
    store = filled(tmp_path / "s.zarr")
    with store.writing() as mine, store.writer("image", "video2", IMAGE) as writer:
        writer.append(embedding=np.ones((3000, 512), np.float16))
        mine._bury(mine.writer)  # as another writer does
        with pytest.raises(StoreError, match="took it for dead") as error:
            writer.publish({"split": "train"})
    assert "\n" not in str(error.value)
    assert FeatureStore.open(store.path).done("image") == {"video1"}


def test_a_writer_that_wakes_up_while_it_is_cleared_away_publishes_no_half(tmp_path, monkeypatch):
    store = filled(tmp_path / "s.zarr")
    delete, woken = shutil.rmtree, []

    def deleting(folder: Path, **options: bool) -> None:
        for chunk in folder.rglob("0"):
            if chunk.is_file() and not woken:
                chunk.unlink()
                woken.append(chunk)
                with pytest.raises(TargetError):
                    writer.publish_copy(b"a marker")
        delete(folder, **options)

    with store.writing() as mine, store.writer("image", "video2", IMAGE) as writer:
        writer.append(embedding=np.ones((3000, 512), np.float16))
        monkeypatch.setattr("vaprompt.store.aside.shutil.rmtree", deleting)
        mine._bury(mine.writer)  # as another writer does
        monkeypatch.undo()
    assert woken
    assert not (store.path / "image" / "video2").exists()
