"""Whatever becomes of workers, each video is told of once, and only those fail that workers die of."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaprompt.datasets.base import Video
from vaprompt.extraction.dispatch import LOSSES, OUTAGES, Arrived, Ended, Event, Lost, dispatch
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
        self.alone: Counter[str] = Counter()
        """Workers that died with one video in hand, of that video."""
        self.outages: Counter[str] = Counter()

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
            outage = self.chance.random() < 0.5
            self.alone.update(videos if len(videos) == 1 and not outage else ())
            self.outages.update(videos if outage else ())
            # It may have finished some of them, and died before it could say so.
            self.books.done |= {video for video in sorted(videos) if self.chance.random() < 0.3}
            return [Lost(worker, outage)]
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
            assert pool.alone[name] == LOSSES or pool.outages[name] >= OUTAGES


class Poisoned:
    """A pool whose workers die some time after they are given one of the deadly videos, and now and then with a node.

    `draw` decides what happens: it returns a number below the one that it is given.
    """

    def __init__(self, hands: list[int], deadly: set[str], kills_node: bool, outages: int, draw) -> None:
        self.hands, self.deadly, self.kills_node, self.outages, self.draw = hands, deadly, kills_node, outages, draw
        self.held: dict[str, list[str]] = {}
        self.started = self.turns = 0
        self.suspected: set[str] = set()
        self.lost: Counter[str] = Counter()
        self.given: Counter[str] = Counter()

    def give(self, worker: str, job: Job) -> None:
        name = job.video.name
        assert not any(name in held for held in self.held.values())
        # Who may be deadly is alone with its worker, from the first to the last.
        assert not self.held[worker] or not ({name, *self.held[worker]} & self.suspected)
        self.held[worker].append(name)
        assert len(self.held[worker]) <= self.hands[int(worker) % len(self.hands)]
        self.given[name] += 1

    def events(self, seconds: float) -> list[Event]:
        self.turns += 1
        if len(self.held) < len(self.hands):
            worker, self.started = str(self.started), self.started + 1
            self.held[worker] = []
            return [Arrived(worker, self.hands[int(worker) % len(self.hands)])]
        worker = sorted(self.held)[self.draw(len(self.held))]
        held = self.held[worker]
        if self.outages and self.draw(4) == 0:
            self.outages -= 1
            return self.lose(worker, outage=True)
        if not held:
            return []
        video = held[self.draw(len(held))]
        if video in self.deadly:
            return self.lose(worker, outage=self.kills_node)
        held.remove(video)
        return [Ended(worker, video, None)]

    def lose(self, worker: str, *, outage: bool) -> list[Event]:
        videos = self.held.pop(worker)
        self.lost.update(videos)
        self.suspected.update(() if outage else videos)
        return [Lost(worker, outage)]


@given(data=st.data())
@settings(max_examples=200)
def test_just_the_deadly_videos_fail_and_all_others_are_done(data):
    count = data.draw(st.integers(1, 14), label="videos")
    hands = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3), label="hands")
    deadly = {f"v{number}" for number in data.draw(st.sets(st.integers(0, count - 1), max_size=5), label="deadly")}
    chance = Random(data.draw(st.integers(0, 10**6), label="chance"))
    # Machines that are taken away while a video is under way say nothing against it.
    outages, kills_node = data.draw(st.integers(0, OUTAGES - 1), label="outages"), data.draw(st.booleans())
    pauses = data.draw(st.sets(st.integers(0, count - 1)), label="pauses")
    books = Books(count)
    pool = Poisoned(hands, deadly, kills_node, outages if not kills_node else 0, chance.randrange)

    def feed() -> Iterator[Job | None]:
        for number, one in enumerate(books.jobs):
            if number in pauses:
                yield None
            yield one

    dispatch(feed(), pool, books.told())
    assert books.failed.keys() == deadly
    assert sorted(books.finished) == sorted({one.video.name for one in books.jobs} - deadly)
    most = (OUTAGES if kills_node else LOSSES) * len(deadly) + outages
    together = LOSSES * len(deadly) * max(hands)
    assert pool.started <= len(hands) + most + together


@pytest.mark.parametrize("hands", [1, 4, 64])
def test_a_deadly_video_takes_no_other_with_it(hands):
    books = Books(100)
    pool = Poisoned([hands], {"v3"}, kills_node=False, outages=0, draw=Random(0).randrange)
    dispatch(iter(books.jobs), pool, books.told())
    assert books.failed == {"v3": f"{LOSSES} workers died over it, as when memory does not suffice"}
    assert len(books.finished) == 99
    # One more than it needs to be known, where it was not alone at first.
    assert pool.lost["v3"] == LOSSES + (hands > 1)
    assert max(pool.given[name] for name in books.finished) <= 2


def test_machines_that_go_again_and_again_cost_nothing_but_time():
    books = Books(4)
    pool = Poisoned([4], set(), kills_node=False, outages=OUTAGES - 1, draw=lambda below: 0)
    dispatch(iter(books.jobs), pool, books.told())
    assert not books.failed
    assert len(books.finished) == 4


def test_a_video_that_machines_die_of_fails_in_the_end():
    books = Books(8)
    pool = Poisoned([4, 4], {"v1"}, kills_node=True, outages=0, draw=Random(0).randrange)
    dispatch(iter(books.jobs), pool, books.told())
    assert books.failed == {"v1": f"{OUTAGES} workers died over it with their machines"}
    assert len(books.finished) == 7


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
