"""How progress reaches a log and a terminal."""

import os
import re
from pathlib import Path

import pytest

from vaprompt.cli.bars import RichProgress
from vaprompt.cli.progress import PlainProgress, duration, progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_lines_now_and_then_and_one_at_the_end(tmp_path: Path):
    clock = Clock()
    with (
        (tmp_path / "log").open("w") as log,
        PlainProgress(log, every=10, clock=clock).task("encoding", total=4, unit="videos") as task,
    ):
        for seconds, video in ((4, "a"), (11, "b"), (12, "c"), (22, "d")):
            clock.now = seconds
            task.advance(note=video)
    assert (tmp_path / "log").read_text().splitlines() == [
        "encoding: 2/4 videos (b), about 11 s left",
        "encoding: 4/4 videos (d)",
        "encoding: 4/4 videos (d), 22.0 s",
    ]


def test_a_stage_within_a_stage_gets_a_line_if_it_lasts(tmp_path: Path):
    clock = Clock()
    with (tmp_path / "log").open("w") as log:
        watcher = PlainProgress(log, every=10, clock=clock)
        with watcher.task("videos", total=2):
            for ends in (9, 20):
                with watcher.task(f"one until {ends}", total=5, unit="s") as task:
                    clock.now = ends
                    task.advance(5)
    assert (tmp_path / "log").read_text().splitlines() == [
        "one until 20: 5/5 s",
        "one until 20: 5/5 s, 11.0 s",
        "videos: 0/2, 20.0 s",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3570, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_times_left_read_as_estimates(seconds: float, shown: str):
    assert duration(seconds) == shown


def test_a_log_holds_no_control_characters(tmp_path: Path):
    with (tmp_path / "log").open("w") as log:
        watcher = progress(log)
        watcher.say("no [audio] stream: silence")
        with watcher.task("reading") as task:
            task.advance(3)
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first == "no [audio] stream: silence"
    assert second.startswith("reading: 3, ")
    assert (first + second).isprintable()


def test_a_terminal_gets_bars_that_show_names_as_they_are():
    shown_end, written_end = os.openpty()
    with os.fdopen(written_end, "w") as terminal, os.fdopen(shown_end, "rb", buffering=0) as screen:
        watcher = progress(terminal)
        assert isinstance(watcher, RichProgress)
        with watcher.task("extracting", total=2, unit="videos") as outer:
            with watcher.task("frames") as inner:
                inner.advance(10)
            outer.advance(note="[bold]v1[/bold]")
            watcher.say("kept [as it is]")
            outer.advance()
        with watcher.task("again", total=1) as task:
            task.advance()
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.read(65536).decode())
    for text in ("extracting", "2/2 videos", "kept [as it is]", "again"):
        assert text in shown
