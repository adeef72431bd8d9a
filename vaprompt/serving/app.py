"""What the server answers: its page, uploads, the queue, progress as it happens, results, and the live view."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse

from vaprompt.report.pages.page import asset
from vaprompt.serving.engine import Live
from vaprompt.serving.front import RECORDER, front_page
from vaprompt.serving.jobs import Job, Jobs, Worker
from vaprompt.serving.limits import Limits, Refusal
from vaprompt.serving.uploads import check_head, drain

BEAT = 10.0
"""Seconds after which a page is told that nothing has changed, so that one that is gone is noticed."""
HELLO = 10.0
"""Seconds in which a live view has to say what it sends."""
PIECE = struct.Struct("<Bd")
"""In front of each binary message of the live view: what it is, and its time in seconds."""
PICTURE, SOUND = 1, 2
REFUSED, TRY_LATER = 1008, 1013
GONE_STATUS = 499
PAGE_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'; connect-src 'none'"
"""Of the pages of results, which state what else they may do themselves."""


@runtime_checkable
class Predicting(Worker, Protocol):
    """What predicts videos and watches a camera; see `Engine`."""

    facts: dict[str, Any]

    async def open_live(self, sound: int | None) -> Live:
        """Begin a live view."""
        ...

    async def close_live(self, live: Live) -> None:
        """End a live view."""
        ...

    async def close(self) -> None:
        """End everything."""
        ...


@dataclass(frozen=True)
class Service:
    """What the answers are made from."""

    engine: Predicting
    jobs: Jobs
    limits: Limits
    ending: asyncio.Event
    """Set when the server ends: whoever streams stops."""


def make_app(service: Service) -> FastAPI:
    """Return the application, without the gate in front of it."""

    @asynccontextmanager
    async def at_work(app: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(service.jobs.run())
        try:
            yield
        finally:
            working.cancel()
            # Before that is waited for: a job that hangs would be given time to stop.
            await service.engine.close()
            await asyncio.wait({working})

    # No pages of FastAPI's own: they ask others for scripts.
    app = FastAPI(lifespan=at_work, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.service = service
    app.state.listeners = 0
    kept = service.jobs.workplace.keep is not None
    app.state.front = lambda host: front_page(service.engine.facts, service.limits, host, kept=kept)
    app.add_exception_handler(Refusal, _refused)
    app.add_api_route("/", page, methods=["GET"])
    app.add_api_route(f"/{RECORDER}", recorder, methods=["GET"])
    app.add_api_route("/state", state, methods=["GET"])
    app.add_api_route("/events", events, methods=["GET"])
    app.add_api_route("/jobs", upload, methods=["POST"])
    app.add_api_route("/jobs/{job}", remove, methods=["DELETE"])
    app.add_api_route("/jobs/{job}/{file}", result, methods=["GET", "HEAD"])
    app.add_api_websocket_route("/live", live)
    return app


async def page(request: Request) -> Response:
    """Answer with the page."""
    html, policy = request.app.state.front(request.headers["host"])
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


async def recorder(request: Request) -> Response:
    """Answer with the script that hands out sound: a browser takes it from an address alone."""
    return Response(asset(RECORDER), media_type="text/javascript")


async def state(request: Request) -> Response:
    """Answer with all jobs."""
    return JSONResponse({"jobs": _service(request).jobs.told()})


async def events(request: Request) -> Response:
    """Answer with all jobs now and whenever something changes, as server-sent events."""
    service = _service(request)
    if request.app.state.listeners >= service.limits.listeners:
        raise Refusal(503, "too many pages are open")
    return StreamingResponse(_told(request, service), media_type="text/event-stream")


async def upload(request: Request) -> Response:
    """Receive a video, which is the body as it is, and put it into the queue."""
    service, chunks = _service(request), request.stream()
    headers = request.headers
    try:
        stated = check_head(
            headers.get("content-type"), headers.get("content-encoding"), headers.get("content-length"), service.limits
        )
        job = await service.jobs.add(request.query_params.get("name", ""), chunks, stated)
    except ClientDisconnect:
        return Response(status_code=GONE_STATUS)
    except Refusal as refusal:
        await drain(chunks, service.limits)
        return _refused(request, refusal)
    return JSONResponse(job.told(), status_code=201)


async def remove(request: Request, job: str) -> Response:
    """Give a video up, or clear away its result."""
    jobs = _service(request).jobs
    jobs.cancel(jobs[job])
    return Response(status_code=204)


async def result(request: Request, job: str, file: str) -> Response:
    """Answer with what was made of a video, or the video itself: names are looked up and are no paths."""
    found = _service(request).jobs[job]
    if file not in found.files:
        raise Refusal(404, "there is no such file")
    path, content_type = found.files[file]
    if not path.is_file():
        raise Refusal(404, "it is not there any more: it was moved or removed on the server's disk")
    headers = {"Content-Security-Policy": PAGE_POLICY} if path.suffix == ".html" else {}
    kept = None if path.suffix == ".html" or path == found.media else _kept_name(found, path)
    return FileResponse(path, media_type=content_type, filename=kept, headers=headers)


async def live(socket: WebSocket) -> None:
    """Take pictures and sound from a page, and answer with points."""
    service: Service = socket.app.state.service
    await socket.accept()
    try:
        view = await service.engine.open_live(await _hello(socket))
    except Refusal as refusal:
        await _close(socket, TRY_LATER, refusal.reason)
        return
    except WebSocketDisconnect:
        return
    parts = [asyncio.create_task(part) for part in (_bring(socket, view), _answer(socket, view), service.ending.wait())]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        reason = next((str(task.exception()) for task in done if isinstance(task.exception(), Refusal)), "")
        await _close(socket, REFUSED if reason else 1001, reason)
    finally:
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)
        await service.engine.close_live(view)


async def _hello(socket: WebSocket) -> int | None:
    """Return the rate of the sound that will come, in samples a second; None where none will.

    Raises:
        Refusal: what is sent is something else, or nothing.
        WebSocketDisconnect: nobody is there any more.
    """
    try:
        async with asyncio.timeout(HELLO):
            message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        said = json.loads(message.get("text") or "")
        sound = said["sound"]
    except (TimeoutError, ValueError, TypeError, KeyError, RecursionError):
        raise Refusal(400, 'the first message is to be {"sound": samples a second, or null}') from None
    if sound is not None and (isinstance(sound, bool) or not isinstance(sound, int) or not 0 < sound < 10**6):
        raise Refusal(400, "sound is to be a number of samples a second, or null")
    return sound


async def _bring(socket: WebSocket, view: Live) -> None:
    """Hand on what comes from a page, until it ends.

    Raises:
        Refusal: it is no picture and no sound.
    """
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        content = message.get("bytes")
        if content is None or len(content) <= PIECE.size:
            raise Refusal(400, "a message is neither a picture nor sound")
        kind, taken = PIECE.unpack_from(content)
        if kind not in (PICTURE, SOUND) or not math.isfinite(taken):
            raise Refusal(400, "a message is neither a picture nor sound")
        await (view.picture if kind == PICTURE else view.sound)(taken, content[PIECE.size :])


async def _answer(socket: WebSocket, view: Live) -> None:
    """Hand on what the process says, until it ends.

    Raises:
        Refusal: it cannot go on.
    """
    with suppress(WebSocketDisconnect, RuntimeError):  # nobody is there any more
        while (message := await view.answer()) is not None:
            if "fault" in message:
                raise Refusal(400, message["fault"])
            await socket.send_json(message)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """End a websocket, saying why; a reason has 123 bytes at most there, so a message says it before."""
    with suppress(WebSocketDisconnect, RuntimeError):
        if reason:
            await socket.send_json({"fault": reason})
        await socket.close(code)


async def _told(request: Request, service: Service) -> AsyncIterator[str]:
    seen = -1
    request.app.state.listeners += 1
    try:
        while not service.ending.is_set():
            now = await service.jobs.changed.after(seen, BEAT)
            yield ": still here\n\n" if now == seen else f"data: {json.dumps({'jobs': service.jobs.told()})}\n\n"
            seen = now
    finally:
        request.app.state.listeners -= 1


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    headers: Mapping[str, str] = {"Connection": "close"} if request.method == "POST" else {}
    return JSONResponse({"error": refusal.reason}, status_code=refusal.status, headers=dict(headers))


def _kept_name(job: Job, path: Path) -> str:
    """Return what a browser is to call a file that it keeps: after the video, as far as that is a name."""
    stem = job.name.rpartition(".")[0] or job.name
    safe = "".join("_" if character in '/\\:*?"<>|' else character for character in stem).strip(". ") or "video"
    return f"{safe}{path.name.removeprefix('prediction')}"
