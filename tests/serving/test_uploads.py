"""What is taken and what is not, and that nothing of what is not taken stays."""

import json
import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from tests.media.clips import write_clip, write_wav
from tests.serving.service import Served, read_all, served, video
from vaprompt.serving.kinds import kind_of, suffixes
from vaprompt.serving.limits import Limits


def files(server: Served) -> list[Path]:
    return [path for path in server.folder.rglob("*") if path.is_file()]


def nothing_left(server: Served) -> bool:
    return not any(server.folder.iterdir()) and server.jobs.workplace.room.used == 0 and not server.states()


@pytest.fixture(scope="module")
def strict() -> Iterator[Served]:
    """Return a server that takes little, and waits for nobody."""
    limits = Limits(bytes=200_000, held=300_000, patience=0.4, least=1000, linger=0.2)
    with served(limits) as running:
        yield running


def test_a_video_is_received_whole_and_predicted(server: Served):
    content = video(3_000_000)
    status, told = server.send(content, "talk.mp4")
    assert status == 201
    assert (told["name"], told["bytes"]) == ("talk.mp4", len(content))
    server.wait(lambda: server.states() == {"talk.mp4": "done"})
    (job,) = server.listed()
    assert job["facts"]["frames"] == 1
    assert job["files"] == ["page.html", "prediction.csv", "video.mp4"]
    status, headers, body = server.ask(path=f"/jobs/{job['id']}/video.mp4")
    assert (status, body, headers["content-type"]) == (200, content, "video/mp4")
    status, headers, body = server.ask(path=f"/jobs/{job['id']}/video.mp4", Range="bytes=4-7")
    assert (status, body) == (206, b"ftyp")
    status, headers, body = server.ask(path=f"/jobs/{job['id']}/prediction.csv")
    assert body.startswith(b"frame,time,")
    assert headers["content-disposition"] == 'attachment; filename="talk.csv"'
    assert server.ask("DELETE", f"/jobs/{job['id']}")[0] == 204
    assert nothing_left(server)


NAMES = [
    "../../../../etc/passwd", "/etc/cron.d/evil", "..\\..\\evil.mp4", "C:\\evil.mp4", "a\0b.mp4", "\n\rSet-Cookie: x=1",
    "<img src=x onerror=alert(1)>.mp4", "a/b/c.mp4", ".", "..", "", "   ", "\u202egpj.mp4", "x" * 5000, "\ud800.mp4",
    "CON", "-rf", "$(id)", "'; DROP TABLE jobs; --", "prediction.csv", "video.mp4", ".htaccess", "🎬" * 300,
]  # fmt: skip


def test_names_are_shown_and_never_paths(server: Served):
    for name in NAMES:
        status, _, body = server.ask("POST", f"/jobs?name={quote(name, errors='surrogatepass')}", video())
        assert status == 201
        job = json.loads(body)
        shown = job["name"]
        assert 0 < len(shown) <= server.jobs._limits.name
        assert not any(c in shown for c in "\0\n\r\u202e")
        (found,) = (path for path in server.folder.iterdir() if path.name == job["id"])
        assert all(path.name in ("video.mp4", "prediction.csv", "page.html", "left.tmp") for path in found.iterdir())
    server.wait(lambda: all(job["state"] == "done" for job in server.listed()))
    outside = {path.relative_to(server.folder).parts[0] for path in files(server)}
    assert outside <= {job["id"] for job in server.listed()}
    for job in server.listed():
        status, headers, _ = server.ask(path=f"/jobs/{job['id']}/prediction.csv")
        assert status == 200
        assert "set-cookie" not in headers
        assert "/" not in headers["content-disposition"].replace("attachment; filename", "").replace("utf-8''", "")


def test_addresses_are_looked_up_and_never_paths(server: Served):
    server.send(video())
    server.wait(lambda: list(server.states().values()) == ["done"])
    (job,) = server.listed()
    secret = server.folder.parent / "secret.csv"
    secret.write_text("secret")
    try:
        its = f"/jobs/{job['id']}"
        for path in (
            f"{its}/left.tmp", f"{its}/..%2f..%2fsecret.csv", f"{its}/../../secret.csv",
            f"{its}/%2e%2e/%2e%2e/secret.csv", f"{its}/", its, f"/jobs/.{job['id']}/video.mp4",
            "/jobs/..%2f/secret.csv", "/jobs/../secret.csv",
            "/jobs//secret.csv", f"/{secret}", "/static/serve.js",
        ):  # fmt: skip
            status, _, body = server.ask(path=path)
            assert status in (404, 405, 400)
            assert b"secret" not in body
    finally:
        secret.unlink()


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 400, "empty"),
        (b"x", 415, "no video"),
        (b"#!/bin/sh\nrm -rf /\n" * 100, 415, "no video"),
        (b"PK\x03\x04" + bytes(1000), 415, "no video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), 415, "no video"),
        (b"<html><script>alert(1)</script>" + bytes(1000), 415, "no video"),
        (b"#EXTM3U\nhttp://127.0.0.1/secret", 415, "no video"),
        (b"ffconcat version 1.0\nfile /etc/passwd", 415, "no video"),
        (bytes(10_000), 415, "no video"),
        (video(200_001), 413, "0 MB"),
    ],
)
def test_what_is_no_video_or_too_large_is_refused(strict: Served, content: bytes, status: int, word: str):
    """By its bytes, whatever it is called."""
    found, told = strict.send(content, "fine.mp4")
    assert found == status
    assert word in told["error"]
    assert nothing_left(strict)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "text/html"}, 415),
        ({"Content-Type": "application/zip"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "video/mp4"}, 201),
        ({"Content-Type": "APPLICATION/OCTET-STREAM; x=y"}, 201),
    ],
)
def test_what_calls_itself_something_else_is_refused(server: Served, headers: dict[str, str], status: int):
    assert server.send(video(), **headers)[0] == status


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".webm"])
def test_containers_are_told_by_their_first_bytes(tmp_path: Path, suffix: str):
    clip = write_clip(tmp_path / f"clip{suffix}", video="libvpx" if suffix == ".webm" else "mpeg4")
    kind = kind_of(clip.read_bytes()[:512])
    assert kind is not None
    assert kind.suffix == suffix


def test_sound_alone_is_taken_where_it_is_wanted(tmp_path: Path):
    head = write_wav(tmp_path / "a.wav", np.zeros(1000)).read_bytes()[:512]
    taken = kind_of(head, sound=True)
    assert taken is not None
    assert (taken.suffix, taken.content_type) == (".wav", "audio/wav")
    assert kind_of(head) is None
    assert suffixes(sound=True).removeprefix(suffixes(sound=False)) == ",.wav,.m4a,.ogg"


def test_a_length_that_is_not_stated_is_counted(strict: Served):
    """Too much is refused when it has come, not before."""

    def pieces(count: int) -> Iterator[bytes]:
        yield video(1000)
        for _ in range(count):
            yield bytes(1000)

    status, told = strict.send(pieces(100))
    assert status == 201
    assert told["bytes"] == 101_000
    strict.wait(lambda: list(strict.states().values()) == ["done"])
    strict.ask("DELETE", f"/jobs/{told['id']}")
    assert strict.send(pieces(300))[0] == 413
    assert nothing_left(strict)


def begin(server: Served, connection: socket.socket, stated: int, content: bytes) -> None:
    head = f"POST /jobs?name=a.mp4 HTTP/1.1\r\nHost: {server.host}\r\nOrigin: http://{server.host}\r\n"
    connection.sendall(f"{head}Content-Length: {stated}\r\n\r\n".encode() + content)


def test_an_upload_that_is_cut_leaves_nothing(strict: Served):
    with strict.connected() as connection:
        begin(strict, connection, 100_000, video(50_000))
        strict.wait(lambda: files(strict))
    strict.wait(lambda: nothing_left(strict))


@pytest.mark.parametrize("pace", [0, 20])
def test_an_upload_that_stalls_or_crawls_is_given_up(strict: Served, pace: int):
    with strict.connected() as connection:
        begin(strict, connection, 100_000, video(2000))
        connection.settimeout(0.05)
        answer, until = b"", time.monotonic() + 10
        while not answer and time.monotonic() < until:
            try:
                if pace:
                    connection.sendall(bytes(pace))
                answer = connection.recv(65536)
            except TimeoutError:
                pass
            except OSError:
                break
        assert b" 408 " in answer
    strict.wait(lambda: nothing_left(strict))


def test_what_does_not_fit_beside_the_others_is_refused_before_it_is_sent(strict: Served):
    strict.engine.go.clear()
    _, first = strict.send(video(180_000), "first.mp4")
    with strict.connected() as connection:
        begin(strict, connection, 180_000, b"")
        assert b" 507 " in read_all(connection)
    assert strict.send(video(100_000), "small.mp4")[0] == 201
    strict.engine.go.set()
    strict.wait(lambda: set(strict.states().values()) == {"done"})
    for job in strict.listed():
        strict.ask("DELETE", f"/jobs/{job['id']}")
    assert nothing_left(strict)
    assert first["bytes"] == 180_000


@pytest.mark.parametrize("size", [4000, 3_000_000])
def test_a_disk_that_fills_up_meanwhile_is_told_and_nothing_stays(server: Served, size: int):
    """Small and large: what a file still holds back meets the disk when it is closed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        status, told = server.send(video(size), "a.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 507
    assert told["error"] == "cannot be stored here (File too large)"
    assert nothing_left(server)


@pytest.mark.parametrize(
    "head",
    [
        "POST /jobs HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nContent-Length: -1\n\n",
        "POST /jobs HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nContent-Length: 5\nContent-Length: 6\n\n",
        "POST /jobs HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nContent-Length: 99999999999999999999999999\n\n",
        "POST /jobs HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nTransfer-Encoding: chunked\n\nzz\n",
        "POST /jobs HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nTransfer-Encoding: gzip\n\n",
        "POST /jobs HTTP/1.1\nHost: {host}\nOrigin: x\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n",
        "GET / HTTP/9.9\n\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
        "\n\n\n\n",
        "GET /" + "a" * 100_000 + " HTTP/1.1\nHost: {host}\n\n",
    ],
)
def test_what_is_no_http_ends_with_the_connection(strict: Served, head: str):
    with strict.connected() as connection:
        connection.sendall(head.replace("{host}", strict.host).replace("\n", "\r\n").encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert answer == b"" or answer.split()[1].startswith(b"4")
    assert strict.ask(path="/state")[0] == 200
    assert nothing_left(strict)


def test_a_head_that_never_ends_is_not_waited_for(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vaprompt.serving.connections.ImpatientProtocol.head_seconds", 0.2)
    for begun in ("", "GET / HT", f"GET / HTTP/1.1\r\nHost: {server.host}\r\nX: "):
        with server.connected() as connection:
            connection.sendall(begun.encode())
            began = time.monotonic()
            read_all(connection)
            assert time.monotonic() - began < 5


def test_everything_goes_when_the_server_ends():
    with served() as running:
        running.send(video())
        running.wait(lambda: list(running.states().values()) == ["done"])
        assert files(running)
        folder = running.folder
    assert not folder.exists()


def test_what_is_to_stay_stays_under_names_of_our_own(tmp_path: Path):
    with served(keep=tmp_path / "kept") as running:
        running.send(video(), "../../talk.mp4")
        running.wait(lambda: list(running.states().values()) == ["done"])
        running.engine.fault = lambda title: RuntimeError("a bug")
        running.send(video(), "broken.mp4")
        running.wait(lambda: running.states().get("broken.mp4") == "failed")
        (job, broken) = running.listed()
        assert "a fault in vaprompt itself" in broken["error"]
        assert running.ask(path=f"/jobs/{job['id']}/prediction.csv")[0] == 200
        running.ask("DELETE", f"/jobs/{job['id']}")
    (kept,) = (tmp_path / "kept").iterdir()
    assert {path.name for path in kept.iterdir()} >= {"video.mp4", "prediction.csv", "job.json"}
    assert json.loads((kept / "job.json").read_text())["name"] == "../../talk.mp4"


def test_what_was_kept_and_then_moved_away_is_told(tmp_path: Path):
    with served(keep=tmp_path / "kept") as running:
        running.send(video(), "talk.mp4")
        running.wait(lambda: running.states() == {"talk.mp4": "done"})
        (job,) = running.listed()
        for kept in (tmp_path / "kept").glob("2*"):
            shutil.rmtree(kept)
        for method in ("GET", "HEAD"):
            assert running.ask(method, f"/jobs/{job['id']}/page.html")[0] == 404
        assert running.ask(path=f"/jobs/{job['id']}/video.mp4", Range="bytes=0-3")[0] == 404
        assert "is not there any more" in json.loads(running.ask(path=f"/jobs/{job['id']}/page.html")[2])["error"]
        assert running.ask("DELETE", f"/jobs/{job['id']}")[0] == 204


def test_what_a_killed_server_left_is_cleared_away_and_what_a_living_one_holds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / ".vaprompt-serve-left"
    (left / "upload").mkdir(parents=True)
    (tmp_path / ".vaprompt-serve-link").symlink_to(os.path.realpath("/usr"))
    with served() as first:
        assert not left.exists()
        first.send(video())
        with served() as second:
            assert first.folder.is_dir()
            assert second.folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".vaprompt-serve-link"]
