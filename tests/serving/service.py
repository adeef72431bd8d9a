"""A server on loopback in a thread of this process, with something in the engine's place that costs nothing."""

import asyncio
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaprompt.serving.app import Service, make_app
from vaprompt.serving.engine import Live
from vaprompt.serving.gate import Gate, names_of
from vaprompt.serving.jobs import JobError, Jobs, Stage
from vaprompt.serving.limits import Limits, Refusal
from vaprompt.serving.server import Server
from vaprompt.serving.workplace import Workplace

FACTS = {
    "run": "made-up",
    "notes": [],
    "faces": False,
    "pictures": True,
    "window": 10.0,
    "phrases": [f"region {number}" for number in range(9)],
    "centres": [[v, a] for v in (-0.66, 0.0, 0.66) for a in (-0.66, 0.0, 0.66)],
    "rate": 10.0,
    "device": "cpu",
}


def point(time: float) -> dict[str, Any]:
    """Return what the process says of a picture; the face goes after 3 s."""
    value = {"valence": 0.5, "arousal": -0.25, "regions": [0.6] + [0.05] * 8, "gate": 0.3, "filled": time}
    there = time < 3
    face = {"there": there, "face": [0.5, 0.5, 0.4, 0.1] if there else None}
    return {"time": time, **(value if there else {}), **face, "level": -30.0, "dropped": 2, "milliseconds": 20.0}


def video(size: int = 4000) -> bytes:
    """Return what looks like an mp4 by its first bytes, and is as long as is wanted."""
    head = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"isom")
    return head + struct.pack(">I4s", size - 20, b"mdat") + bytes(size - 28)


class Pretended:
    """Does what an engine does, without a process: a job takes as long as a test lets it."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = dict(FACTS)
        self.began: list[str] = []
        self.stopped: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.go = threading.Event()
        self.go.set()
        self.fault: Callable[[str], Exception | None] = lambda title: None
        self.brought: list[tuple[str, float, int]] = []
        self.pictures: list[bytes] = []
        self.live: Live | None = None
        self.opened: list[int | None] = []
        self.closed = False

    async def predict(
        self, job: str, media: Path, folder: Path, title: str, tell: Callable[[Stage], None]
    ) -> dict[str, Any]:
        self.began.append(title)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            tell(Stage("finding faces in the video", 1.0, 4.0, "s"))
            while not self.go.is_set():
                await asyncio.sleep(0.005)
            error = self.fault(title)
            if error is not None:
                raise error
            (folder / "prediction.csv").write_text("frame,time,valence,arousal\n1,0.000000,0.5,-0.5\n")
            (folder / "page.html").write_text("<!doctype html><title>page</title><link rel=icon href=data:,>")
            (folder / "left.tmp").write_text("not for anybody")
            return {"frames": 1, "seconds": 0.0, "people": 1, "interpolation": "none", "notes": ["a note"], "mean": []}
        except asyncio.CancelledError:
            self.stopped.append(title)
            raise
        finally:
            self.at_once -= 1

    async def open_live(self, sound: int | None) -> Live:
        if self.live is not None:
            raise Refusal(503, "the live view is in use on another page; end it there first")
        self.opened.append(sound)

        async def bring(message: dict[str, Any], content: bytes) -> None:
            self.brought.append((message["do"], message["time"], len(content)))
            if message["do"] == "picture" and self.live is not None:
                self.pictures.append(content)
                self.live.said({"live": 1, "took": message["time"], "point": point(message["time"])})

        self.live = Live(1, bring)
        self.live.said({"live": 1, "opened": True})
        return self.live

    async def close_live(self, live: Live) -> None:
        live.end()
        self.live = None

    async def close(self) -> None:
        self.closed = True


@dataclass
class Served:
    """A server under test, and ways to ask it."""

    port: int
    engine: Any
    jobs: Jobs
    folder: Path
    """The workplace's."""
    token: str | None = None
    _connections: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/"

    def ask(
        self, method: str = "GET", path: str = "/", body: Any = None, own: bool = True, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask as the server's own page would, or as nobody in particular; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if own and method not in ("GET", "HEAD"):
            given.setdefault("Origin", f"http://{self.host}")
        try:
            connection.request(method, path, body=body, headers=given)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def send(self, content: Any, name: str = "a.mp4", **headers: str) -> tuple[int, dict[str, Any]]:
        """Upload; return the status and what is said."""
        from urllib.parse import quote

        status, _, body = self.ask("POST", f"/jobs?name={quote(name)}", content, **headers)
        return status, json.loads(body)

    def states(self) -> dict[str, str]:
        """Return every job's name and state."""
        return {job["name"]: job["state"] for job in self.listed()}

    def listed(self) -> list[dict[str, Any]]:
        """Return all jobs."""
        listed: list[dict[str, Any]] = json.loads(self.ask(path="/state")[2])["jobs"]
        return listed

    def wait(self, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Return what the condition gives as soon as that is true."""
        until = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < until, f"waited in vain; {self.states()}"
            time.sleep(0.01)
        return found

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Yield a bare connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            yield connection

    def bare(self, head: str, body: bytes = b"") -> bytes:
        """Send bytes as they are; return everything that is answered until the connection ends."""
        with self.connected() as connection:
            connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + body)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side ends it."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@contextmanager
def served(
    limits: Limits | None = None, *, keep: Path | None = None, token: str | None = None, host: str = "127.0.0.1"
) -> Iterator[Served]:
    """Run a server in a thread, and end it in good order."""
    engine, limits = Pretended(), limits or Limits()
    workplace = Workplace(limits, keep)
    found: dict[str, Any] = {}
    ready = threading.Event()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))

    async def serve() -> None:
        jobs = Jobs(engine, workplace, limits)
        service = Service(engine, jobs, limits, asyncio.Event())
        gate = Gate(make_app(service), names=names_of(host), token=token)
        server = Server(gate, service, ready.set, limits)
        found.update(jobs=jobs, server=server)
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server")
    thread.start()
    try:
        assert ready.wait(20)
        yield Served(listener.getsockname()[1], engine, found["jobs"], workplace.folder, token)
    finally:
        engine.go.set()
        found["server"].should_exit = True
        thread.join(20)
        listener.close()
        workplace.close()
    assert not thread.is_alive()
    assert engine.closed


def failing(reason: str) -> Callable[[str], Exception | None]:
    """Return a fault for every video."""
    return lambda title: JobError(reason)
