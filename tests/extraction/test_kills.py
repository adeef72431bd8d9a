"""Whatever is killed, whenever, and whatever the disk says: the same command ends with what an undisturbed run writes.

Every kill is a SIGKILL to a real process (tests/extraction/forge.py).
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.extraction.conftest import files_below, touch_later
from tests.extraction.forge import Forge, forge, write_tiny
from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.layout import STREAMS

EVENLY = 24
"""Kills at evenly spaced moments of a run."""
NAMED = {
    "the folder is there and nothing in it": r"open .*\.begins ",
    "a writer has begun to say who it is": r"rename .*\.begins ",
    "a writer is there and has no folder aside": r"mkdir .*/\.aside/[^/]+$",
    "the store has no attributes": r"replace .* \S+\.zarr/zarr\.json$",
    "a stream has no fingerprint": r"replace .* \S+\.zarr/audio/zarr\.json$",
    "a lease is taken": r"mkdir .*/image/v1$",
    "a chunk has a folder and no content": r"open .*/image/v1/embedding/c/",
    "the arrays are there and no marker": r"replace \S*zarr\.json\S* \S*/\.aside/\S*/labels/v1/zarr\.json$",
    "the marker is there and the group is aside": r"rename \S+ \S+\.zarr/labels/v1$",
    "the prompts are aside": r"rename \S+ \S+\.zarr/text$",
    "a failure has a folder and no reason": r"replace .*/failed/v3/zarr\.json$",
    "all is done but the leases": r"unlink .*\.writer$",
    "only empty folders are left": r"rmdir .*/\.aside$",
}
RANDOM = 15
"""Kills at random times."""
PUBLISHES = r"rename \S+ \S+\.zarr/({})/(v\d+)$"
"""The moment at which a group of a stream takes its place."""


@pytest.fixture(scope="module")
def smith() -> Iterator[Forge]:
    with forge() as running:
        yield running


@dataclass
class Place:
    """A data set, and extractions of it into one store."""

    smith: Forge
    data: Path
    store: Path
    options: dict[str, Any] = field(default_factory=dict)
    runs: int = 0

    def begin(self, **options: Any) -> int:
        self.runs += 1
        self.log(self.runs).touch()
        return self.smith.order(
            data=self.data, store=self.store, log=self.log(self.runs), **{**self.options, **options}
        )

    def extract(self, **options: Any) -> int:
        return self.smith.end(self.begin(**options))

    def log(self, run: int) -> Path:
        return self.store.with_suffix(f".log{run}")

    def written(self, run: int) -> list[str]:
        """Return the groups that a run began to write."""
        return re.findall(r"^writes (\S+/\S+)$", self.log(run).read_text(), flags=re.MULTILINE)

    def moments(self, run: int) -> list[str]:
        return re.findall(r"^moment \d+ (.*)$", self.log(run).read_text(), flags=re.MULTILINE)

    def error(self, run: int) -> str:
        """Return the one line that a run ended with."""
        (line,) = re.findall(r"^error (.*)$", self.log(run).read_text(), flags=re.MULTILINE)
        return line

    def finished(self) -> set[str]:
        try:
            store = FeatureStore.open(self.store)
        except StoreError:
            return set()
        return {f"{stream}/{video}" for stream in STREAMS for video in store.done(stream)}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("kills") / "data")


@pytest.fixture(scope="module")
def undisturbed(smith, data) -> Place:
    place = Place(smith, data, data.parent / "undisturbed.zarr")
    assert place.extract() == 0
    assert FeatureStore.open(place.store).videos() == ["v1", "v2"]
    assert list(FeatureStore.open(place.store).failed()) == ["v3"]
    assert len(place.moments(1)) > 200
    return place


@pytest.fixture
def place(smith, data, tmp_path) -> Place:
    return Place(smith, data, tmp_path / "killed.zarr")


def assert_ends_like(place: Place, undisturbed: Path) -> None:
    """Run the same command again: it does nothing twice, and ends with the same files."""
    before = place.finished()
    assert place.extract() == 0
    assert not before & set(place.written(place.runs))
    assert files_below(place.store) == files_below(undisturbed)


@pytest.mark.parametrize("moment", NAMED)
def test_killed_at_a_named_moment(place, undisturbed, moment):
    assert place.extract(kill=NAMED[moment]) == -signal.SIGKILL
    assert_ends_like(place, undisturbed.store)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(EVENLY))
def test_killed_at_moments_all_along(place, undisturbed, part):
    moment = 1 + part * len(undisturbed.moments(1)) // EVENLY
    assert place.extract(kill=moment) == -signal.SIGKILL
    assert_ends_like(place, undisturbed.store)


def test_killed_at_random_times(place, undisturbed):
    chance, killed = random.Random(7), 0
    while killed < RANDOM:
        before, pid = place.finished(), place.begin(delay=0.02)
        time.sleep(chance.uniform(0.0, 0.4))
        os.kill(pid, signal.SIGKILL)
        if place.smith.end(pid) == 0:  # it was quicker
            assert files_below(place.store) == files_below(undisturbed.store)
            shutil.rmtree(place.store)
            continue
        killed += 1
        assert not before & set(place.written(place.runs))
    assert_ends_like(place, undisturbed.store)


@pytest.mark.slow
def test_three_at_once_killed_at_random_times(place, undisturbed):
    chance = random.Random(11)
    for _ in range(6):
        before = place.finished()
        pids = [place.begin(delay=0.1) for _ in range(3)]
        for pid in chance.sample(pids, 3):
            time.sleep(chance.uniform(0.0, 0.4))
            os.kill(pid, signal.SIGKILL)
        ended = [place.smith.end(pid) for pid in pids]
        assert set(ended) <= {0, -signal.SIGKILL}
        assert not any(before & set(place.written(place.runs - late)) for late in range(3))
        if 0 in ended:
            shutil.rmtree(place.store)
    assert_ends_like(place, undisturbed.store)


@pytest.fixture(scope="module")
def refreshed(smith, undisturbed, tmp_path_factory) -> Place:
    """Return an undisturbed refresh of a store of which one annotation and another video have changed."""
    folder = tmp_path_factory.mktemp("refreshed")
    shutil.copytree(undisturbed.data, folder / "data", copy_function=shutil.copy2)
    shutil.copytree(undisturbed.store, folder / "undisturbed.zarr")
    annotation, media = folder / "data/v1.txt", folder / "data/v2.mp4"
    annotation.write_text(annotation.read_text().replace("0.1", "0.9"))
    shutil.copyfile(folder / "data/v1.mp4", media)
    for file in (annotation, media):
        touch_later(file)
    place = Place(smith, folder / "data", folder / "undisturbed.zarr", {"refresh": True})
    assert place.extract() == 0
    assert sorted(place.written(1)) == ["audio/v2", "image/v2", "labels/v1", "labels/v2"]
    return place


@pytest.mark.slow
@pytest.mark.parametrize("part", range(16))
def test_killed_while_something_older_is_replaced(smith, undisturbed, refreshed, tmp_path, part):
    place = Place(smith, refreshed.data, tmp_path / "killed.zarr", refreshed.options)
    shutil.copytree(undisturbed.store, place.store)
    # Each replacement tries to take the place, moves what is there aside, takes it, and lets all that reach the disk.
    renames = [number for number, call in enumerate(refreshed.moments(1), start=1) if call.startswith("rename")]
    moments = sorted({number + later for number in renames for later in (0, 2)})
    assert place.extract(kill=moments[part * len(moments) // 16]) == -signal.SIGKILL
    assert place.extract() == 0
    assert files_below(place.store) == files_below(refreshed.store)


def test_prompts_are_not_lost_when_their_replacement_is_killed(smith, undisturbed, tmp_path):
    more = {"changes": ["prompts.phrases=['bored']"]}
    for number in (1, 2, 3):
        place = Place(smith, undisturbed.data, tmp_path / f"killed{number}.zarr")
        shutil.copytree(undisturbed.store, place.store)
        before = FeatureStore.open(place.store).text()
        renames = r"rename \S*/text \S*"
        assert place.extract(**more, kill=f"({renames}){{1}}" if number == 1 else number_of(place, more, number)) < 0
        assert place.extract(**more) == 0
        assert FeatureStore.open(place.store).text().keys() >= {*before, "a photo of a person who looks bored"}


def number_of(place: Place, options: dict[str, Any], rename: int) -> int:
    """Return the number of the moment of a run's so-manieth rename of the prompts."""
    trial = Place(place.smith, place.data, place.store.with_name("trial.zarr"))
    shutil.rmtree(trial.store, ignore_errors=True)
    shutil.copytree(place.store, trial.store)
    assert trial.extract(**options) == 0
    found = [number for number, call in enumerate(trial.moments(1), start=1) if re.match(r"rename \S*/text ", call)]
    return found[rename - 1]


def four_writers(smith: Forge, tmp_path: Path, **options: Any) -> None:
    """Let four extract at once, one of which dies with pictures that it has not published; compare with one alone."""
    data = write_tiny(tmp_path / "data", videos=12)
    # Small batches: an engine then has few videos under way, and leaves some to writers that come a little later.
    wanted = {"videos": 12, "changes": ["image.batch=4"]}
    alone = Place(smith, data, tmp_path / "alone.zarr", wanted)
    assert alone.extract() == 0
    shared = Place(smith, data, tmp_path / "shared.zarr", {**wanted, "delay": 0.2})
    each: list[dict[str, Any]] = [{name: values[number] for name, values in options.items()} for number in range(4)]
    each[1]["kill"] = PUBLISHES.format("image")
    pids = [shared.begin(**one) for one in each]
    assert smith.end(pids[1]) == -signal.SIGKILL
    # Not all that is there by now: others may have begun to do again what was lost.
    published = [re.search(PUBLISHES.format(r"\w+"), moment) for moment in shared.moments(2)]
    before = shared.finished() & {"/".join(found.groups()) for found in published if found}
    for pid in (pids[0], pids[2], pids[3]):
        assert smith.end(pid) == 0
        assert FeatureStore.open(shared.store).videos() == FeatureStore.open(alone.store).videos()
    assert files_below(shared.store) == files_below(alone.store)
    begun = Counter(group for run in range(1, 5) for group in shared.written(run))
    again = {group for group, times in begun.items() if times > 1}
    assert all(begun[group] == 2 for group in again)
    # An engine has several videos under way: what it had begun and not finished is lost, and nothing else.
    assert again
    assert again <= set(shared.written(2)) - before
    assert sum(bool(shared.written(run)) for run in range(1, 5)) == 4


def test_four_writers_share_the_work_and_one_that_is_killed_is_replaced(smith, tmp_path):
    four_writers(smith, tmp_path)


def test_four_machines_with_clocks_hours_apart_share_the_work(smith, tmp_path):
    four_writers(
        smith,
        tmp_path,
        machine=["a", "b", "c", "d"],
        skew=[0.0, 7200.0, -86400.0, 1e8],
        patience=[3.0, 3.0, 3.0, 3.0],
    )


def test_a_disk_that_takes_no_more_is_one_line_and_the_rest_goes_on_later(place, undisturbed):
    for largest in (0, 100, 300, 600, 2000):
        assert place.extract(largest=largest) == 2
        assert "cannot be written (File too large)" in place.error(place.runs)
        assert str(place.store) in place.error(place.runs)
    assert_ends_like(place, undisturbed.store)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Return a folder on a disk of its own, which only root can provide."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "none", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_the_rest_goes_on_later(smith, data, undisturbed, small_disk):
    place = Place(smith, data, small_disk / "s.zarr")
    place.log = lambda run: small_disk.parent / f"log{run}"
    for size in range(8, 400, 24):
        remount(small_disk, f"size={size}k")
        before = place.finished()
        code = place.extract()
        assert place.finished() >= before
        assert not before & set(place.written(place.runs))
        if code == 0:
            break
        assert code == 2
        assert "No space left on device" in place.error(place.runs)
    assert size > 100
    assert files_below(place.store) == files_below(undisturbed.store)


def test_a_read_only_disk_is_one_line_and_a_finished_store_needs_no_more(smith, data, undisturbed, small_disk):
    place = Place(smith, data, small_disk / "s.zarr", {"videos": 2})
    place.log = lambda run: small_disk.parent / f"log{run}"
    remount(small_disk, "size=8m,ro")
    assert place.extract() == 2
    assert "cannot be written (Read-only file system)" in place.error(1)
    remount(small_disk, "rw")
    assert place.extract(kill=NAMED["the marker is there and the group is aside"]) == -signal.SIGKILL
    remount(small_disk, "ro")
    before = files_below(place.store)
    assert place.extract() == 2
    assert "cannot be written (Read-only file system)" in place.error(3)
    assert files_below(place.store) == before
    remount(small_disk, "rw")
    shutil.rmtree(place.store)
    shutil.copytree(undisturbed.store, place.store)
    shutil.rmtree(place.store / "failed/v3")
    remount(small_disk, "ro")
    assert place.extract() == 0
