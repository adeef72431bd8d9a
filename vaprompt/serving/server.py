"""Starting the server, and ending it in good order."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import uvicorn

from vaprompt.errors import VapromptError
from vaprompt.progress import SILENT, Progress
from vaprompt.serving.app import Service, make_app
from vaprompt.serving.connections import MOST_CONNECTIONS, MOST_HEAD, ImpatientProtocol
from vaprompt.serving.engine import Engine, Settings
from vaprompt.serving.gate import Gate, is_loopback, names_of
from vaprompt.serving.jobs import Jobs
from vaprompt.serving.limits import Limits
from vaprompt.serving.workplace import Workplace

SHORTEST_TOKEN = 16
MAKE_TOKEN = "auto"  # noqa: S105 (no token)
OTHER_PORT = "choose another --port; 0 takes a free one"
GRACE = 5
"""Seconds for which answers under way are waited for at the end."""
ONLY_WITH_TOKEN = "can be reached from other machines, and there is no token"  # noqa: S105


class ServeError(VapromptError):
    """The server cannot be started as it is asked to."""


@dataclass(frozen=True)
class Address:
    """Where the server is to be found."""

    host: str
    port: int
    token: str | None = None

    @property
    def url(self) -> str:
        """What to open in a browser."""
        # Every address of the machine is no address to go to.
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/" + (f"?token={quote(self.token)}" if self.token else "")


def chosen_token(host: str, token: str | None) -> str | None:
    """Return the token that a server on `host` asks for; `auto` makes one.

    Raises:
        ServeError: it can be reached from elsewhere and there is none, or it is easily guessed.
    """
    if token == MAKE_TOKEN:
        return secrets.token_urlsafe(24)
    if token is None and not is_loopback(host):
        raise ServeError(f"--host {host}", fault=ONLY_WITH_TOKEN, remedy="add --token auto, or leave --host out")
    if token is not None and len(token) < SHORTEST_TOKEN:
        fault = f"has {len(token)} characters; it is to have {SHORTEST_TOKEN} at least"
        raise ServeError("--token", fault=fault, remedy="choose a longer one, or --token auto")
    return token


def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    keep: Path | None = None,
    limits: Limits | None = None,
    progress: Progress = SILENT,
    ready: Callable[[Address], None] = lambda address: None,
) -> None:
    """Serve a run until it is interrupted (SIGINT, SIGTERM, SIGHUP), then clear away what is not to stay.

    Args:
        settings: the run and how it predicts.
        host: the address to listen on.
        port: 0 takes a free one.
        token: what a browser has to know, or `auto`; needed where `host` can be reached from other machines.
        keep: a folder in which videos and results stay; by default they are removed.
        limits: what is taken at most.
        progress: who is told how far the loading is.
        ready: told the address as soon as it can be opened.

    Raises:
        ServeError: the address cannot be listened on, or needs a token.
        RunError, WeightsError, FingerprintError, DetectorError: the run cannot be used.
        TargetError: `keep` cannot be written to.
    """
    limits = limits or Limits()
    address = Address(host, port, chosen_token(host, token))
    with _listening(host, port) as listener:
        address = replace(address, port=listener.getsockname()[1])
        workplace = Workplace(limits, keep)
        try:
            with interrupts():
                asyncio.run(_serve(settings, address, listener, workplace, limits, progress, ready))
        finally:
            workplace.close()


async def _serve(
    settings: Settings,
    address: Address,
    listener: socket.socket,
    workplace: Workplace,
    limits: Limits,
    progress: Progress,
    ready: Callable[[Address], None],
) -> None:
    engine = Engine(settings)
    try:
        await engine.start(progress)
        limits = replace(limits, sound=not engine.facts["pictures"])
        service = Service(engine, Jobs(engine, workplace, limits), limits, asyncio.Event())
        gate = Gate(make_app(service), names=names_of(address.host), token=address.token)
        await Server(gate, service, lambda: ready(address), limits).serve(sockets=[listener])
    finally:
        await engine.close()


class Server(uvicorn.Server):
    """uvicorn's, which says when it can be reached, and ends its streams before it waits for them."""

    def __init__(self, gate: Gate, service: Service, ready: Callable[[], None], limits: Limits) -> None:
        """Serve what is behind `gate`."""
        super().__init__(
            uvicorn.Config(
                gate,
                http=ImpatientProtocol,
                ws="websockets-sansio",
                ws_max_size=limits.picture,
                ws_ping_interval=limits.silent,
                ws_ping_timeout=limits.silent,
                ws_per_message_deflate=False,
                h11_max_incomplete_event_size=MOST_HEAD,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=GRACE,
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
            )
        )
        self._service, self._ready = service, ready
        # Its warnings are of what strangers send; what goes wrong here is told.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._service.ending.set()
        self._service.jobs.changed.ring()
        await super().shutdown(sockets)


@contextmanager
def interrupts() -> Iterator[None]:
    """Let an interrupt, a request to terminate or a terminal that is closed end the block, without more ado."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def hang_up(signum: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    # uvicorn takes both over while it serves, ends in good order, and passes them on.
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on an address.

    Raises:
        ServeError: it cannot.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(f"--host {host}", fault=_said(error), remedy="name an address of this machine") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            # At once: two sockets that do not listen yet can be bound to one port, and loading takes a while.
            listener.listen()
        except OSError as error:
            remedy = "name an address of this machine" if error.errno == errno.EADDRNOTAVAIL else OTHER_PORT
            raise ServeError(f"{host}:{port}", fault=_said(error), remedy=remedy) from None
        except OverflowError:
            raise ServeError(f"--port {port}", fault="is no port", remedy="choose one from 0 to 65535") from None
        listener.set_inheritable(False)
        yield listener


def _said(error: OSError) -> str:
    return f"cannot be listened on ({error.strerror or error})"
