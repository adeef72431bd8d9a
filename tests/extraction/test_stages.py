"""What is told of an extraction under way adds up, for one machine and for several."""

import json

from vaprompt.extraction import stages
from vaprompt.extraction.stages import ENCODE, READ, WAIT, WRITE, Meter, RunLog, log_file, note


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def metered(monkeypatch, *, read, encode, wait):
    clock = Clock()
    monkeypatch.setattr(stages, "time", clock)
    meter = Meter()
    for name, took, items, count in (
        (READ, read, "", 0),
        (ENCODE, encode, "images", 12),
        (ENCODE, encode, "images", 4),
        (ENCODE, 0.5, "clips", 2),
        (WRITE, 0.25, "", 0),
        (WAIT, wait, "", 0),
    ):
        with meter.stage(name, items, count):
            clock.now += took
    meter.queue(0.5)
    meter.queue(1.0)
    return meter


def test_a_summary_is_seconds_items_and_what_the_limit_is(monkeypatch):
    found = metered(monkeypatch, read=2, encode=3, wait=1).summary()
    assert found["elapsed"] == 2 + 3 + 3 + 0.5 + 0.25 + 1
    assert found["seconds"] == {
        "read": 2,
        "encode images": 6,
        "encode clips": 0.5,
        "write": 0.25,
        "wait for batch": 1,
    }
    assert found["items"] == {"images": 16, "clips": 2}
    assert found["per_batch"] == {"images": 8, "clips": 2}
    assert found["per_second"]["images"] == round(16 / 9.75, 3)
    assert found["queue_fill"] == 0.75
    assert found["limit"] == "encoding"
    assert metered(monkeypatch, read=9, encode=1, wait=9).summary()["limit"] == "reading"


def test_a_note_tells_speeds_stages_queue_and_limit(monkeypatch):
    said = metered(monkeypatch, read=2, encode=3, wait=1).note()
    assert said == "1.64 images/s, 0.205 clips/s, read 2 s, encode 6.5 s, write 0.25 s, queue 75% full, limit: encoding"


def test_notes_of_several_machines_add_up(monkeypatch):
    one, other = (metered(monkeypatch, read=2, encode=3, wait=1).summary() for _ in range(2))
    said = note([one, other])
    assert said.startswith("3.28 images/s, 0.41 clips/s, read 4 s, encode 13 s, write 0.5 s")
    assert note([]) == ""


def test_the_log_gets_a_line_now_and_then(monkeypatch, tmp_path):
    meter = metered(monkeypatch, read=2, encode=3, wait=1)
    log = RunLog(tmp_path / "s.zarr")
    for _ in range(5):
        log.progress(meter)
        stages.time.now += stages.EVERY / 2
    lines = [json.loads(line) for line in log_file(tmp_path / "s.zarr").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["progress", "progress"]
    assert lines[0]["seconds"]["read"] == 2
