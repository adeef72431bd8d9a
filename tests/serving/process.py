"""The server as a user starts it, in a process of its own, with a real run."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Started:
    """A server that answers."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    """Where it puts its own folder."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str = "GET", path: str = "/state", body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Origin": f"http://{self.host}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, content: bytes, name: str = "a.mp4") -> tuple[int, dict[str, Any]]:
        status, body = self.ask("POST", f"/jobs?name={quote(name)}", content)
        return status, json.loads(body)

    def listed(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.ask()[1])["jobs"]
        return listed

    def job(self, name: str) -> dict[str, Any]:
        """Return a job by its id."""
        return next(job for job in self.listed() if job["id"] == name)

    def ended(self, name: str, seconds: float = 60.0) -> dict[str, Any]:
        """Return a job as soon as it has ended."""
        wait(lambda: self.job(name)["state"] not in ("waiting", "working"), seconds)
        return self.job(name)

    @property
    def engine(self) -> int:
        """The number of the process that predicts."""
        me = self.process.pid
        (child,) = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        return int(child)

    def files(self) -> list[Path]:
        """Return what lies in its folder."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def started(run: Path, folder: Path, *options: str, threads: int = 1) -> Iterator[Started]:
    """Start a server whose temporary files lie in `folder`; end it, if the test has not."""
    command = [sys.executable, "-m", "vaprompt", "serve", str(run), "--port", "0", "--json", *options]
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": str(threads)}
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment)
    assert process.stdout is not None
    try:
        told = json.loads("".join(_until_closed(iter(process.stdout.readline, ""))))
        yield Started(process, told["port"], folder)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        process.stdout.close()


def _until_closed(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("}"):
            return


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Return as soon as the condition is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def kilobytes(pid: int) -> int:
    """Return what a process holds in memory (proc(5), RssAnon: files that are mapped do not count)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads_of(pid: int) -> int:
    """Return how many threads a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
