"""The server as users have it: a process that predicts what `predict` predicts, and leaves nothing behind."""

import asyncio
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.browsing import Tab
from tests.cli.calling import call
from tests.media.clips import write_clip
from tests.serving.process import Started, started, wait
from vaprompt.errors import VapromptError
from vaprompt.extraction.decoder import LENGTH
from vaprompt.prediction.predict import predict
from vaprompt.serving import engine as module
from vaprompt.serving.jobs import JobError
from vaprompt.serving.server import serve


@pytest.fixture(scope="module")
def server(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(small_run, tmp_path_factory.mktemp("server"), "--faces", "frames", "--max-minutes", "1") as running:
        yield running


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of a few seconds that changes, with sound."""
    sound = np.sin(np.arange(4 * 16000) ** 1.5 / 1000)[:, None] / 2
    times = range(0, 4000, 100)
    return write_clip(tmp_path_factory.mktemp("talk") / "talk.mp4", times_ms=times, sound=sound, sound_rate=16000)


@pytest.mark.slow
def test_a_video_gets_what_predict_writes(server: Started, talk: Path, small_run: Path, tmp_path: Path):
    (expected,) = predict(small_run, [talk], tmp_path / "out", faces="frames", device="cpu").done
    status, told = server.send(talk.read_bytes(), "A talk.mp4")
    assert status == 201
    job = server.ended(told["id"])
    assert job["state"] == "done", job["error"]
    assert job["facts"]["frames"] == len(expected.time_F)
    assert server.ask(path=f"/jobs/{told['id']}/prediction.csv")[1] == expected.csv.read_bytes()
    assert server.ask("DELETE", f"/jobs/{told['id']}")[0] == 204
    assert not [path for path in server.files() if path.name != "stderr"]


@pytest.mark.slow
def test_its_page_plays_the_video_and_asks_for_nothing_else(server: Started, talk: Path, tab: Tab):
    job = server.ended(server.send(talk.read_bytes(), "<b>A talk</b>.mp4")[1]["id"])
    tab.allowed.append(f"http://{server.host}/jobs/{job['id']}/video.mp4")
    tab.open(f"http://{server.host}/jobs/{job['id']}/page.html")
    assert tab.one("h1").text == "<b>A talk</b>.mp4"
    tab.one("#plane .plane-dot")
    playing = "const video = document.getElementById('video'); return video.readyState >= 2 && video.videoWidth"
    assert tab.wait(lambda: tab.script(playing)) == 64
    assert {link.get_attribute("href").rpartition("/")[2] for link in tab.all("#about a")} == {"prediction.csv"}
    tab.picture("serve-result")


@pytest.mark.slow
def test_the_camera_in_a_browser_gets_points_at_least_twice_a_second(server: Started, tab: Tab):
    tab.allowed.append(f"ws://{server.host}/live")
    tab.open(f"http://{server.host}/")
    tab.one("#live-start").click()

    def count() -> int:
        return int(tab.script("return document.getElementById('live-figures').dataset.points || 0"))

    tab.wait(lambda: count() >= 3)
    before, began = count(), time.monotonic()
    time.sleep(5)
    assert (count() - before) / (time.monotonic() - began) >= 2
    shown = tab.one("#live-figures").text
    assert "valence" in shown
    assert float(re.search(r"([0-9.]+) s behind", shown)[1]) < 2
    tab.one("#live-stop").click()
    assert tab.one("#live-told").text == "stopped"


@pytest.mark.slow
def test_what_cannot_be_decoded_or_is_too_long_is_told_without_a_path_and_the_next_goes_on(
    server: Started, tmp_path: Path
):
    clip = write_clip(tmp_path / "clip.mp4")
    long = write_clip(tmp_path / "long.mp4", times_ms=range(0, 70_000, 1000))
    whole = clip.read_bytes()
    sent = [server.send(content)[1]["id"] for content in (whole[: len(whole) // 2], long.read_bytes(), whole)]
    broken, too_long, fine = (server.ended(job) for job in sent)
    assert broken["state"] == too_long["state"] == "failed"
    assert "60 s are allowed" in too_long["error"]
    assert "--max-minutes" in too_long["error"]
    for job in (broken, too_long):
        assert str(server.folder) not in job["error"]
        assert job["id"] not in job["error"]
        assert ";" in job["error"]
    assert fine["state"] == "done"


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_and_work_goes_on(server: Started, talk: Path, tmp_path: Path):
    long = write_clip(tmp_path / "long.mp4", times_ms=range(0, 50_000, 100))
    first, second = (server.send(media.read_bytes())[1]["id"] for media in (long, talk))
    wait(lambda: server.job(first)["stage"]["name"] in ("looking through the video", "predicting the video"))
    before = server.engine
    os.kill(before, signal.SIGKILL)
    assert server.ended(first)["state"] == "failed"
    assert "ended by itself" in server.job(first)["error"]
    assert server.ended(second)["state"] == "done"
    assert server.engine != before


@pytest.mark.slow
def test_a_video_is_not_to_blame_for_a_process_that_ended_before_it_came_to_it(server: Started, talk: Path):
    before = server.engine
    os.kill(before, signal.SIGSTOP)  # it does not read what it is sent
    job = server.send(talk.read_bytes())[1]["id"]
    wait(lambda: server.job(job)["state"] == "working")
    os.kill(before, signal.SIGKILL)
    assert server.ended(job)["state"] == "done"
    assert server.engine != before


def test_a_video_that_ends_the_process_at_once_is_tried_twice_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    media, ready = tmp_path / "a.mp4", json.dumps({"ready": {}}).encode()
    dies = f"""
import os, socket, sys
with socket.socket(fileno=int(sys.argv[2])) as server:
    server.sendall({LENGTH.pack(len(ready)) + ready!r})
    if server.recv(1):
        open({str(media)!r}, "a").write("tried ")
    os._exit(7)
"""
    monkeypatch.setattr(module, "START", dies)

    async def predicted() -> None:
        worker = module.Engine(module.Settings("run"))
        try:
            await worker.predict("1", media, tmp_path, "a.mp4", lambda stage: None)
        finally:
            await worker.close()

    with pytest.raises(JobError, match=r"ended by itself \(exit code [-0-9]+\); convert the video, or leave it out"):
        asyncio.run(asyncio.wait_for(predicted(), 60))
    assert media.read_text() == "tried tried "


@pytest.mark.slow
def test_a_job_that_is_given_up_stops_and_the_process_stays(server: Started, talk: Path):
    before = server.engine
    job = server.send(talk.read_bytes())[1]["id"]
    wait(lambda: server.job(job)["state"] == "working")
    server.ask("DELETE", f"/jobs/{job}")
    assert server.ended(job)["state"] == "cancelled"
    assert server.engine == before


@pytest.fixture
def terminal() -> Iterator[None]:
    """Let programs that are started heed that a terminal is closed, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_at_once_in_good_order_and_leaves_nothing(
    small_run: Path, talk: Path, tmp_path: Path, number: signal.Signals
):
    with started(small_run, tmp_path, "--faces", "frames") as running:
        job = running.send(talk.read_bytes())[1]["id"]
        wait(lambda: running.job(job)["state"] == "working")
        engine = running.engine
        assert running.end(number) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["stderr"]
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    assert not Path(f"/proc/{engine}").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "0.0.0.0"), ("--host 0.0.0.0", "other machines", "--token auto")),
        (("--token", "short"), ("--token", "16", "longer")),
        (
            ("--host", "no.such.host.invalid", "--token", "auto"),
            ("--host no.such.host.invalid", "cannot be listened on", "this machine"),
        ),
        (("--host", "192.0.2.1", "--token", "auto"), ("192.0.2.1", "cannot be listened on", "this machine")),
    ],
)
def test_what_cannot_be_listened_on_is_a_line(tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]):
    done = call("serve", tmp_path / "run", *options)
    assert done.code == 2
    assert all(word in done.fault for word in words)


def test_a_port_that_is_taken_is_a_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("serve", tmp_path / "run", "--port", str(port))
    assert done.code == 2
    assert f"127.0.0.1:{port}: cannot be listened on (Address already in use); choose another --port" in done.fault


def test_a_port_that_is_taken_by_a_server_that_loads_yet_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = tmp_path / "loaded"
    slow = f"import os, time\nwhile not os.path.exists({str(loaded)!r}): time.sleep(0.05)"
    monkeypatch.setattr(module, "START", slow)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def first() -> None:
        with pytest.raises(VapromptError, match="does not start"):
            serve(module.Settings("run"), port=port)

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    server = threading.Thread(target=first)
    server.start()
    try:
        wait(listens, 10)
        done = call("serve", tmp_path / "run", "--port", str(port))
    finally:
        loaded.touch()
        server.join(20)
    assert done.code == 2
    assert f"127.0.0.1:{port}: cannot be listened on (Address already in use); choose another --port" in done.fault


def test_without_its_parts_a_line_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vaprompt.serving.installed.NEEDED", ("fastapi", "no-such-part"))
    done = call("serve", tmp_path / "run")
    assert done.code == 2
    assert "no-such-part missing); pip install 'vaprompt[serve]'" in done.fault


@pytest.mark.slow
def test_a_run_that_is_none_is_a_line(tmp_path: Path):
    """Told by the process that loads it, as by `predict`."""
    done = call("serve", tmp_path / "no-run", "--port", "0")
    assert done.code == 2
    assert "no-run" in done.fault
