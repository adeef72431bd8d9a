"""How progress reaches a log and a terminal."""

import io

from vaprompt.cli.bars import RichProgress
from vaprompt.cli.progress import PlainProgress, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_lines_now_and_then_and_one_at_the_end():
    log, clock = io.StringIO(), Clock()
    with PlainProgress(log, every=10, clock=clock).task("encoding", total=4, unit="videos") as task:
        for seconds, video in ((4, "a"), (11, "b"), (12, "c"), (22, "d")):
            clock.now = seconds
            task.advance(note=video)
    assert log.getvalue().splitlines() == [
        "encoding: 2/4 videos (b)",
        "encoding: 4/4 videos (d)",
        "encoding: 4/4 videos (d), 22.0 s",
    ]


def test_a_log_holds_no_control_characters():
    log = io.StringIO()
    watcher = progress(log)
    watcher.say("no [audio] stream: silence")
    with watcher.task("reading") as task:
        task.advance(3)
    assert "no [audio] stream: silence" in log.getvalue()
    assert "reading: 3, " in log.getvalue()
    assert log.getvalue().replace("\n", "").isprintable()


def test_a_terminal_gets_bars_that_show_names_as_they_are():
    terminal = Terminal()
    watcher = progress(terminal)
    assert isinstance(watcher, RichProgress)
    with watcher.task("extracting", total=2, unit="videos") as outer:
        with watcher.task("frames") as inner:
            inner.advance(10)
        outer.advance(note="[bold]video_1[/bold]")
        watcher.say("kept [as it is]")
        outer.advance()
    shown = terminal.getvalue()
    assert "extracting" in shown
    assert "2/2 videos" in shown
    assert "kept [as it is]" in shown
    with watcher.task("again", total=1) as task:
        task.advance()
    assert "again" in terminal.getvalue()
