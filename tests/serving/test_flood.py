"""Hundreds of hostile, cut and parallel uploads against a real server: it answers, and does not grow."""

import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.media.clips import write_clip
from tests.serving.process import Started, descriptors, kilobytes, started, threads_of, wait
from tests.serving.service import read_all, video

HOSTILE, PARALLEL = 200, 50
GROWTH = 16_000
"""Kilobytes by which a process may differ after another hundred: allocators keep what they once had."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(small_run, tmp_path_factory.mktemp("server"), "--faces", "frames", "--max-megabytes", "5") as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()


def head(server: Started, stated: str, name: str = "a.mp4") -> bytes:
    own = (f"Host: {server.host}", f"Origin: http://{server.host}", "Connection: close")
    return "\r\n".join((f"POST /jobs?name={name} HTTP/1.1", *own, stated, "", "")).encode("latin-1")


def hostile(server: Started, clip: bytes, number: int) -> tuple[bytes, bool]:
    """Return what is sent, and whether the sender goes before it hears the answer."""
    chance = random.Random(number)
    place = chance.randrange(40, len(clip))
    noise = chance.randbytes(chance.randrange(1, 60_000))
    flipped = bytearray(clip)
    for _ in range(20):
        flipped[chance.randrange(40, len(clip))] = chance.randrange(256)

    def stated(content: bytes, name: str = "a.mp4") -> bytes:
        return head(server, f"Content-Length: {len(content)}", name) + content

    kinds: list[tuple[bytes, bool]] = [
        (stated(clip[:place]), False),
        (stated(bytes(flipped)), False),
        (stated(clip[:40] + noise), False),
        (stated(noise), False),
        (stated(video(20_000), "..%2f..%2f..%2fetc%2fpasswd" + "x" * number), False),
        (stated(clip[:32] + struct.pack(">I4s", 0xFFFFFFF0, b"moov") + noise), False),
        (stated(clip)[: place + 100], True),
        (stated(clip)[: chance.randrange(1, 120)], True),
        (head(server, "Transfer-Encoding: chunked") + b"1000000\r\n" + clip, True),
        (head(server, "Content-Length: 4000000000") + clip, False),
        (head(server, "Transfer-Encoding: chunked") + b"zz\r\n" + noise, False),
        (noise, False),
    ]
    return kinds[number % len(kinds)]


def attack(server: Started, content: bytes, cut: bool) -> str:
    """Send it; return the status that is answered, or nothing."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(content)
            return "" if cut else read_all(connection)[9:12].decode("latin-1")
        except OSError:
            return ""  # it was cut off from the other side


def idle(server: Started) -> bool:
    return all(job["state"] not in ("waiting", "working") for job in server.listed())


def taken(server: Started) -> dict[str, int]:
    """Return what the server takes, once nothing is under way and every result is cleared away."""
    wait(lambda: idle(server), 120)
    for job in server.listed():
        server.ask("DELETE", f"/jobs/{job['id']}")
    wait(lambda: [path.name for path in server.files()] == ["stderr"])
    me, engine = server.process.pid, server.engine
    return {
        "server, kB": kilobytes(me),
        "engine, kB": kilobytes(engine),
        "server, files": descriptors(me),
        "engine, files": descriptors(engine),
        "server, threads": threads_of(me),
        "engine, threads": threads_of(engine),
    }


def assert_not_grown(before: dict[str, int], after: dict[str, int]) -> None:
    for name, count in after.items():
        assert count <= before[name] + (GROWTH if name.endswith("kB") else 4), (before, after)


def test_hundreds_of_hostile_and_cut_uploads_leave_it_as_it_was(server: Started, clip: bytes):
    engine, answers = server.engine, Counter[str]()

    def half(first: int) -> dict[str, int]:
        for begin in range(first, first + HOSTILE // 2, 10):
            with ThreadPoolExecutor(10) as pool:
                numbers = range(begin, begin + 10)
                answers.update(pool.map(lambda number: attack(server, *hostile(server, clip, number)), numbers))
            wait(lambda: idle(server), 120)
        return taken(server)

    first = half(0)
    assert_not_grown(first, half(HOSTILE // 2))
    # A third are taken for videos, and only a decoder finds out; not one of them ended a process.
    assert answers["201"] >= HOSTILE // 4, answers
    assert {"400", "413", "415", ""} <= set(answers), answers
    assert server.engine == engine
    assert "Traceback" not in (server.folder / "stderr").read_text()
    assert server.ended(server.send(clip)[1]["id"])["state"] == "done"


def test_dozens_at_once_are_all_taken_and_leave_it_as_it_was(server: Started, clip: bytes):
    def all_at_once() -> dict[str, int]:
        with ThreadPoolExecutor(PARALLEL) as pool:
            answers = list(pool.map(lambda number: server.send(clip, f"{number}.mp4"), range(PARALLEL)))
        assert [status for status, _ in answers] == [201] * PARALLEL
        assert sum(job["state"] == "working" for job in server.listed()) <= 1
        seen = set()

        def ended() -> bool:
            seen.update(job["name"] for job in server.listed() if job["state"] == "done")
            return idle(server)

        wait(ended, 120)
        assert len(seen) >= 20
        assert not any(job["state"] == "failed" for job in server.listed())
        return taken(server)

    first = all_at_once()
    assert_not_grown(first, all_at_once())
