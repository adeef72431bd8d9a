"""The queue: one job at a time, in order; each can be given up, and everybody who looks is told."""

import asyncio
import errno
import http.client
import json
import time
from pathlib import Path
from typing import Any

from tests.serving.service import Served, failing, served, video
from vaprompt.serving.limits import Limits


def test_one_job_at_a_time_in_the_order_in_which_they_came(server: Served):
    server.engine.go.clear()
    names = [f"{number}.mp4" for number in range(5)]
    for name in names:
        server.send(video(), name)
    server.wait(lambda: server.states()["0.mp4"] == "working")
    assert [job["place"] for job in server.listed()] == [None, 1, 2, 3, 4]
    (stage,) = {json.dumps(job["stage"]) for job in server.listed() if job["state"] == "working"}
    assert json.loads(stage) == {"name": "finding faces in the video", "done": 1.0, "total": 4.0, "unit": "s"}
    server.engine.go.set()
    server.wait(lambda: set(server.states().values()) == {"done"})
    assert server.engine.began == names
    assert server.engine.most_at_once == 1


def test_a_job_can_be_given_up_while_it_waits_and_while_it_is_at_work(server: Served):
    server.engine.go.clear()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        server.send(video(), name)
    server.wait(lambda: server.states()["a.mp4"] == "working")
    one, two, _ = server.listed()
    for job in (two, one):
        assert server.ask("DELETE", f"/jobs/{job['id']}")[0] == 204
    server.wait(lambda: server.states()["a.mp4"] == server.states()["b.mp4"] == "cancelled")
    server.engine.go.set()
    server.wait(lambda: server.states()["c.mp4"] == "done")
    assert server.engine.stopped == ["a.mp4"]
    assert server.engine.began == ["a.mp4", "c.mp4"]
    (kept,) = server.folder.iterdir()
    assert kept.name == server.listed()[2]["id"]
    server.ask("DELETE", f"/jobs/{one['id']}")
    assert list(server.states()) == ["b.mp4", "c.mp4"]
    assert server.ask("DELETE", f"/jobs/{one['id']}")[0] == 404


def test_a_job_that_is_given_up_twice_is_waited_for_all_the_same(server: Served):
    """What is at work needs a while to stop, and is ended where it does not: asking again must not cut that off."""

    async def predict(job: str, *others: Any) -> dict[str, Any]:
        began.append(job)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            ended.append(job)
            raise
        return {}

    began: list[str] = []
    ended: list[str] = []
    server.engine.predict = predict
    job = server.send(video(), "a.mp4")[1]["id"]
    server.wait(lambda: began)
    for _ in range(3):
        assert server.ask("DELETE", f"/jobs/{job}")[0] == 204
    server.wait(lambda: server.states() == {"a.mp4": "cancelled"})
    assert ended == [job]


def test_a_job_that_fails_says_why_and_the_next_goes_on(server: Served):
    server.engine.fault = failing("cannot be decoded; convert it")
    server.send(video(), "bad.mp4")
    server.wait(lambda: server.states() == {"bad.mp4": "failed"})
    (job,) = server.listed()
    assert job["error"] == "cannot be decoded; convert it"
    assert job["files"] == []
    assert not any(server.folder.iterdir())
    server.engine.fault = lambda title: None
    server.send(video(), "good.mp4")
    server.wait(lambda: server.states()["good.mp4"] == "done")


def test_the_queue_and_the_results_are_bounded():
    with served(Limits(waiting=3, finished=2, linger=0.1)) as server:
        server.engine.go.clear()
        assert [server.send(video(), f"{number}.mp4")[0] for number in range(3)] == [201] * 3
        status, told = server.send(video(), "more.mp4")
        assert status == 503
        assert "queue" in told["error"]
        server.engine.go.set()
        server.wait(lambda: list(server.states()) == ["1.mp4", "2.mp4"] and set(server.states().values()) == {"done"})
        assert len(list(server.folder.iterdir())) == 2
        assert server.jobs.workplace.room.used == 2 * 4000


def test_a_result_that_cannot_be_kept_gives_its_room_back_once(tmp_path, monkeypatch):
    def full(folder: Path) -> Path:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with served(keep=tmp_path / "kept") as server:
        monkeypatch.setattr(server.jobs.workplace, "finished", full)
        server.send(video(), "a.mp4")
        server.wait(lambda: server.states() == {"a.mp4": "failed"})
        assert server.listed()[0]["error"] == "the result cannot be stored (Disk quota exceeded)"
        assert server.jobs.workplace.room.used == 0


def listened(server: Served, until: Any) -> list[Any]:
    """Return what a page is told until that is true of the latest."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    heard = []
    while not heard or not until(heard[-1]):
        line = answer.readline()
        if line.startswith(b"data: "):
            heard.append(json.loads(line[6:])["jobs"])
    connection.close()
    return heard


def test_a_page_is_told_of_each_change(server: Served):
    server.engine.go.clear()
    server.send(video(), "a.mp4")
    listened(server, lambda jobs: jobs[0]["state"] == "working")
    server.engine.go.set()
    last = listened(server, lambda jobs: jobs[0]["state"] == "done")[-1]
    assert last == server.listed()


def test_pages_that_go_are_noticed_and_too_many_are_refused():
    with served(Limits(listeners=2)) as server:
        open_pages = []
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/events")
            open_pages.append((connection, connection.getresponse()))
            open_pages[-1][1].readline()
        assert server.ask(path="/events")[0] == 503
        for connection, answer in open_pages:
            answer.close()
            connection.close()
        server.send(video())  # a change: whoever is gone is noticed
        server.wait(lambda: listened(server, lambda jobs: True))


def test_the_server_ends_at_once_though_what_is_at_work_does_not_stop():
    with served() as server:

        async def hang(*others: Any) -> dict[str, Any]:
            began.append(1)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                until = time.monotonic() + 10
                while not server.engine.closed and time.monotonic() < until:
                    await asyncio.sleep(0.02)
                raise
            return {}

        began: list[int] = []
        server.engine.predict = hang
        server.send(video(), "a.mp4")
        server.wait(lambda: began)
        ending = time.monotonic()
    assert time.monotonic() - ending < 4


def test_the_server_ends_at_once_whatever_is_under_way():
    with served() as server:
        server.engine.go.clear()
        server.send(video(), "a.mp4")
        server.send(video(), "b.mp4")
        server.wait(lambda: server.states()["a.mp4"] == "working")
        page = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        page.request("GET", "/events")
        answer = page.getresponse()
        answer.readline()
        engine, folder, began = server.engine, server.folder, time.monotonic()
        # Leaving ends it; the job is not let go on.
        engine.go.set = lambda: None
    assert time.monotonic() - began < 4
    assert engine.stopped == ["a.mp4"]
    assert not folder.exists()
    page.close()
