"""How progress reaches a log and a terminal."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vaprompt.cli.bars import RichProgress, speed
from vaprompt.cli.progress import PlainProgress, amount, duration, progress
from vaprompt.progress import Progress


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


@pytest.mark.parametrize(
    ("of", "shown"), [(0.866601, "0.867"), (33.5667, "33.6"), (7, "7"), (1234567, "1234567"), (927.21, "927")]
)
def test_how_far_it_is_reads_as_a_number_and_not_as_a_measurement(of: float, shown: str):
    assert amount(of) == shown


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


@pytest.fixture(autouse=True)
def _columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")


def screen(watch: Callable[[Progress], None], columns: int, clock: Callable[[], float] | None = None) -> str:
    """Return everything that a terminal of so many columns is sent, without what moves its cursor."""
    shown_end, written_end = os.openpty()
    os.environ["COLUMNS"] = str(columns)
    pieces: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while piece := os.read(shown_end, 4096):
                pieces.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(written_end, "w") as terminal:
        assert isinstance(progress(terminal), RichProgress)
        watch(RichProgress(terminal, clock=clock))
    reader.join()
    os.close(shown_end)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(pieces).decode()).replace("\r", "\n")


def test_a_terminal_gets_bars_that_show_names_as_they_are():
    def watch(watcher: Progress) -> None:
        with watcher.task("extracting", total=2, unit="videos") as outer:
            with watcher.task("frames") as inner:
                inner.advance(10)
            outer.advance(note="[bold]v1[/bold]")
            watcher.say("kept [as it is]")
            watcher.say("a name with \x1b[31m red in it")
            outer.advance()
        with watcher.task("again", total=1) as task:
            task.advance()

    shown = screen(watch, 80)
    for text in ("extracting", "2/2 videos", "kept [as it is]", r"name with \x1b[31m red", "again"):
        assert text in shown


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_nothing_is_cut_off_in_a_narrow_terminal(columns: int):
    note = "a-video-with-a-long-name-1920x1080_right; 1,234 images/s, 12.3 clips/s, queue 70% full, limit: encoding"

    def watch(watcher: Progress) -> None:
        with (
            watcher.task("extracting", total=594, unit="videos") as outer,
            watcher.task("one", total=3, unit="s") as inner,
        ):
            inner.advance(1)
            outer.advance(12, note)
            time.sleep(0.2)

    lines = screen(watch, columns).splitlines()
    assert max(map(len, lines)) <= columns
    shown = "".join("".join(lines).split())
    assert "…" not in shown
    assert "12/594videos" in shown
    assert "left" in shown
    assert "".join(note.split()) in shown


@pytest.mark.parametrize(
    ("per_second", "unit", "shown"),
    [
        (None, "videos", ""),
        (0.0, "videos", ""),
        (0.05, "epochs", "20 s each"),
        (0.5, "s", "0.5/s"),
        (3.456, "x", "3.46/s"),
    ],
)
def test_speed_is_told_as_it_is_easily_read(per_second: float | None, unit: str, shown: str):
    assert speed(per_second, unit) == shown


def test_a_slow_stage_tells_its_pace_and_the_time_left_after_its_first_step():
    clock = Clock()

    def watch(watcher: Progress) -> None:
        with watcher.task("training", total=15, unit="epochs") as task:
            for epoch in (1, 2):
                clock.now = 130.0 * epoch
                task.advance(1, f"epoch {epoch}: loss 0.5")
                time.sleep(0.15)

    shown = " ".join(screen(watch, 100, clock).split())
    for text in ("1/15 epochs 2 min each", "30 min left", "2/15 epochs 2 min each", "28 min left", "epoch 2: loss 0.5"):
        assert text in shown
