"""Whatever becomes of workers, each video is told of once, and only what a dead one had in hand is handed out again."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from vaprompt.datasets.base import Video
from vaprompt.extraction.dispatch import LOSSES, Arrived, Ended, Event, Lost, dispatch
from vaprompt.extraction.plan import Job
from vaprompt.extraction.work import Told


def job(number: int) -> Job:
    return Job(Video(f"v{number}", "train", Path("x.mp4"), None, None), ("image", "audio", "labels"))


class Books:
    """What was handed out, and what was told."""

    def __init__(self, jobs: int) -> None:
        self.jobs = [job(number) for number in range(jobs)]
        self.given: Counter[str] = Counter()
        self.finished: list[str] = []
        self.failed: dict[str, str] = {}
        self.done: set[str] = set()
        """Videos that are in the store, told of or not."""

    def told(self) -> Told:
        return Told(
            lambda job: self.finished.append(job.video.name),
            lambda job, reason: self.failed.setdefault(job.video.name, reason),
            lambda job: None if job.video.name in self.done else job,
        )


class Fickle:
    """A pool in which anything happens, as `chance` has it."""

    def __init__(self, books: Books, chance: Random) -> None:
        self.books, self.chance = books, chance
        self.hands: dict[str, int] = {}
        self.held: dict[str, set[str]] = {}
        self.losses: Counter[str] = Counter()

    def give(self, worker: str, job: Job) -> None:
        name = job.video.name
        self.books.given[name] += 1
        assert not any(name in held for held in self.held.values())
        self.held[worker].add(name)
        assert len(self.held[worker]) <= self.hands[worker]

    def events(self, seconds: float) -> list[Event]:
        busy = sorted(worker for worker, held in self.held.items() if held)
        kinds = ["arrive"] if not self.held else ["arrive", "end", "end", "lose", "nothing"]
        kind = self.chance.choice(kinds)
        if kind == "arrive" and len(self.held) < 4:
            name = f"w{len(self.hands)}"
            self.hands[name], self.held[name] = self.chance.randint(1, 3), set()
            return [Arrived(name, self.hands[name])]
        if kind == "end" and busy:
            worker = self.chance.choice(busy)
            video = self.chance.choice(sorted(self.held[worker]))
            self.held[worker].remove(video)
            reason = self.chance.choice([None, None, "cut"])
            if reason is None:
                self.books.done.add(video)
            return [Ended(worker, video, reason)]
        if kind == "lose" and self.held:
            worker = self.chance.choice(sorted(self.held))
            videos = self.held.pop(worker)
            self.losses.update(videos)
            # It may have finished some of them, and died before it could say so.
            self.books.done |= {video for video in sorted(videos) if self.chance.random() < 0.3}
            return [Lost(worker)]
        return []


@pytest.mark.parametrize("seed", range(60))
def test_each_video_is_told_of_once_whatever_happens(seed):
    chance = Random(seed)
    books = Books(chance.randint(0, 12))
    pool = Fickle(books, chance)

    def feed() -> Iterator[Job | None]:
        for one in books.jobs:
            if chance.random() < 0.5:
                yield None
            yield one

    dispatch(feed(), pool, books.told())
    names = sorted(one.video.name for one in books.jobs)
    assert sorted([*books.finished, *books.failed]) == names
    assert set(books.finished) == books.done & set(names) - books.failed.keys()
    for name in names:
        assert books.given[name] <= 1 + pool.losses[name]
        if "died over it" in books.failed.get(name, ""):
            assert pool.losses[name] == LOSSES


class Deadly:
    """A pool whose every worker dies of one video, and does the others."""

    def __init__(self, deadly: str) -> None:
        self.deadly, self.waiting, self.workers = deadly, [], 0

    def give(self, worker: str, job: Job) -> None:
        self.waiting.append((worker, job.video.name))

    def events(self, seconds: float) -> list[Event]:
        if not self.waiting:
            self.workers += 1
            return [Arrived(f"w{self.workers}", 1)]
        worker, video = self.waiting.pop(0)
        return [Lost(worker)] if video == self.deadly else [Ended(worker, video, None)]


def test_a_video_that_workers_die_of_fails_and_the_others_are_done():
    books, pool = Books(4), Deadly("v1")
    dispatch(iter(books.jobs), pool, books.told())
    assert sorted(books.finished) == ["v0", "v2", "v3"]
    assert "died over it" in books.failed["v1"]
    assert pool.workers == LOSSES + 1


def test_the_worker_with_most_room_is_given_the_next():
    books, given = Books(5), []

    class Two:
        def give(self, worker: str, job: Job) -> None:
            given.append((worker, job.video.name))

        def events(self, seconds: float) -> list[Event]:
            if not given:
                return [Arrived("small", 1), Arrived("large", 4)]
            return [Ended(worker, video, None) for worker, video in given]

    dispatch(iter(books.jobs), Two(), books.told())
    assert Counter(worker for worker, _ in given) == {"large": 4, "small": 1}
