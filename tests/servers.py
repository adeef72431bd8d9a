"""Real servers on loopback: an S3-compatible one in a process of its own, and one in front of it that can misbehave."""

import http.client
import http.server
import itertools
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

S3_VARIABLES = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_DEFAULT_REGION": "us-east-1"}

Fault = Callable[[str, str], int | str | None]
"""Method and path -> a status to answer, `cut` to end the connection in mid-transfer, or None to do as asked."""


@dataclass
class Front:
    """What a server on loopback was asked, and how it is to misbehave."""

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault = lambda method, path: None
    delay: float = 0.0
    unknown: str = ""
    """A header that it does not know: what is asked with it is not implemented."""
    headers: dict[str, str] = field(default_factory=dict)
    """What it says besides in every answer; an empty length: it says none, and ends the connection instead."""
    words: bytes = b""
    """The content of its answers that are faults."""
    encode: Callable[[bytes], bytes] = bytes
    """What it makes of contents before it sends them."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget what was asked, and behave."""
        self.asked, self.fault, self.delay, self.unknown = [], lambda method, path: None, 0.0, ""
        self.headers, self.words, self.encode = {}, b"", bytes

    @contextmanager
    def held_at(self, request: int) -> Iterator[threading.Event]:
        """Answer no more from the n-th request on; yield an event that says when it has come."""
        reached, released = threading.Event(), threading.Event()
        asked, lock = itertools.count(1), threading.Lock()

        def fault(method: str, path: str) -> None:
            with lock:
                late = next(asked) >= request
            if late:
                reached.set()
                released.wait(60)

        self.fault = fault
        try:
            yield reached
        finally:
            self.fault = lambda method, path: None
            released.set()

    def first(self, count: int, answer: int | str, among: str = "") -> None:
        """Misbehave in the first `count` requests whose path has `among` in it."""
        left, lock = [count], threading.Lock()

        def fault(method: str, path: str) -> int | str | None:
            with lock:
                if among not in path or not left[0]:
                    return None
                left[0] -= 1
            return answer

        self.fault = fault


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def moto() -> Iterator[str]:
    """Run an S3-compatible server with a bucket `team`, and yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/team", method="PUT"), timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the S3 server did not start"
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def in_front_of(upstream: str) -> Iterator[Front]:
    """Pass on what is asked to another server."""
    host, _, port = upstream.removeprefix("http://").partition(":")
    upstreams, opened = threading.local(), []

    class Handler(_Handler):
        def answer(self, method: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            if not hasattr(upstreams, "one"):
                upstreams.one = http.client.HTTPConnection(host, int(port), timeout=30)
                opened.append(upstreams.one)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            upstreams.one.request(method, self.path, body=body, headers=headers)
            with upstreams.one.getresponse() as found:
                return found.status, dict(found.getheaders()), found.read()

    try:
        with _serving(Handler) as front:
            yield front
    finally:
        for one in opened:
            one.close()


@contextmanager
def web_server(root: Path) -> Iterator[Front]:
    """Serve a folder's files, without listings."""

    class Handler(_Handler):
        def answer(self, method: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            file = root / urllib.request.url2pathname(self.path.partition("?")[0]).lstrip("/")
            return (200, {}, file.read_bytes()) if file.is_file() else (404, {}, b"not here")

    with _serving(Handler) as front:
        yield front


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Front

    def answer(self, method: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def _serve(self) -> None:
        self.front.asked.append((self.command, self.path))
        fault = self.front.fault(self.command, self.path)
        if self.front.unknown and self.front.unknown in self.headers:
            fault = 501
        length = int(self.headers.get("Content-Length") or 0)
        time.sleep(self.front.delay)
        if fault == "cut" and length:
            self.rfile.read(length // 2)
            self._cut()
            return
        body = self.rfile.read(length)
        if isinstance(fault, int):
            status, headers, content = fault, {}, self.front.words
        else:
            status, headers, content = self.answer(self.command, body)
            content = self.front.encode(content)
        self.send_response(status)
        for name, value in {**headers, **self.front.headers}.items():
            if name.lower() not in ("connection", "content-length", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
        length = int(next((v for k, v in headers.items() if k.lower() == "content-length"), len(content)))
        if self.front.headers.get("Content-Length") == "":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length if self.command == "HEAD" else len(content)))
        self.end_headers()
        if fault == "cut":
            self.wfile.write(content[: len(content) // 2])
            self._cut()
            return
        if self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@contextmanager
def _serving(handler: type[_Handler]) -> Iterator[Front]:
    front = Front()

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that are killed or cut off are what is tested."""

    with Quiet(("127.0.0.1", 0), type("Bound", (handler,), {"front": front})) as server:
        front.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            thread.join()
