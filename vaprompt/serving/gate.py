"""Who may ask a server on this machine: nobody from another page, or under a foreign name, or without the token.

A page from anywhere can make a browser send requests to 127.0.0.1, and a host name of its own can be made to lead there
(DNS rebinding). So a request's `Host` has to be one of this server's names, and whatever changes something, and every
websocket, has to state an `Origin` that is that very host. Reading is left to browsers' same-origin rule, and refused
where they say that another site asks.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = ("GET", "HEAD")
POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), display-capture=(), usb=(), payment=()",
    "Cache-Control": "no-store",
}
"""Of every answer; an answer may bring its own policy."""
ASKS_FOR_IT = "this server asks for its token: open the address that it printed when it was started"


class Gate:
    """Stands in front of an application, for HTTP and websockets alike."""

    def __init__(self, app: ASGIApp, *, names: frozenset[str], token: str | None = None) -> None:
        """Let pass what asks for one of `names` (see `names_of`), and knows the token, if there is one."""
        self._app, self._names, self._token = app, names, token
        # What browsers are given in place of the token, so that the token itself is kept by nobody.
        self._pass = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer; see ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, with_headers)
        elif scope["type"] == "websocket":
            await _deny(scope, receive, with_headers, answer)
        else:
            # Whatever body follows is not waited for.
            answer.headers.setdefault("Connection", "close")
            await answer(scope, receive, with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """Return what is answered in place of the application; None where it is to answer."""
        headers = Headers(scope=scope)
        refusal = self._stranger(scope, headers)
        if refusal is not None:
            return PlainTextResponse(f"refused: {refusal}\n", status_code=403)
        return None if self._token is None else self._without_token(scope, headers, self._token)

    def _stranger(self, scope: Scope, headers: Headers) -> str | None:
        """Return why a request is not one of this server's own pages'."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return "this server does not go by that name"
        own = origins == [f"http://{hosts[0]}"] or origins == [f"https://{hosts[0]}"]
        if origins and not own:
            return "another page asks"
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE
        if changes and not own:
            return "this is for the server's own page (a script states its address in the header Origin)"
        site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        # Links lead here from anywhere; pictures and scripts of other pages do not come from here.
        if site in ("cross-site", "same-site") and mode != "navigate":
            return "another site asks"
        return None

    def _known(self, host: str) -> bool:
        parts = HOST.fullmatch(host.lower())
        if parts is None:
            return False
        name = parts["name"].strip("[]")
        # A name that is made to lead here is a name: an address is none, and cannot be.
        return name in self._names or ("*" in self._names and _is_address(name))

    def _without_token(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        cookie = f"vaprompt-{(scope.get('server') or ('', 0))[1]}"
        if _same(_cookies(headers).get(cookie, ""), self._pass):
            return None
        # Headers are bytes, of which each is shown as a letter: a terminal's are those of UTF-8.
        brought = headers.get("authorization", "").encode("latin-1").decode("utf-8", "surrogateescape")
        if _same(brought, f"Bearer {token}"):
            return None
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")
        if scope["type"] == "http" and scope["method"] == "GET" and _same(given, token):
            # On without it: addresses are shown, kept and passed on.
            into = RedirectResponse(scope["path"] if scope["path"].startswith("/jobs/") else "/", status_code=303)
            # Not strict: a link on another site is followed without such a cookie, here and on the way on from here.
            into.set_cookie(cookie, self._pass, httponly=True, samesite="lax", path="/")
            return into
        return PlainTextResponse(f"refused: {ASKS_FOR_IT}\n", status_code=401)


def names_of(host: str) -> frozenset[str]:
    """Return the names that a server goes by which listens on `host`; `*` stands for any address in numbers."""
    if is_loopback(host):
        return frozenset((*LOOPBACK, host.lower()))
    machine = {socket.gethostname().lower(), socket.getfqdn().lower()}
    short = {name.partition(".")[0] for name in machine}
    return frozenset((*LOOPBACK, *machine, *(f"{name}.local" for name in short), host.lower(), "*"))


def is_loopback(host: str) -> bool:
    """Say whether an address or name can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


async def _deny(scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
    """Answer a websocket's handshake with a refusal."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(name, value) for name, value in answer.raw_headers if name != b"content-length"]
    await send({"type": "websocket.http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": bytes(answer.body)})
