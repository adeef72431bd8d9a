"""Who may ask: the server's own pages, under its own name, with its token where there is one."""

import base64
import os
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.serving.service import Served, served, video
from vaprompt.serving.gate import HEADERS, is_loopback, names_of

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """Return a server that others could reach."""
    with served(token=TOKEN, host="0.0.0.0") as running:
        yield running


def open_socket(server: Served, **headers: str) -> None:
    with connect(f"ws://{server.host}/live", additional_headers=headers, open_timeout=10) as opened:
        opened.send('{"sound": null}')
        opened.recv(timeout=10)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "localhost:9000", "127.0.0.1:1"])
def test_its_own_names_are_answered(server: Served, host: str):
    """With any port: through a tunnel it is another one."""
    assert server.ask(path="/state", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:80", "127.0.0.2",
        "192.168.0.1", "localhost@evil.example", "evil.example@localhost", "localhost:80@evil.example", "localhost;x",
        "localhost:", "", "localhost:80; script-src *", "127.1", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1",
    ],
)  # fmt: skip
def test_a_name_that_leads_here_from_elsewhere_is_refused(server: Served, host: str):
    status, _, body = server.ask(path="/state", Host=host)
    assert status in (400, 403)
    assert b"jobs" not in body


def test_two_names_are_none(server: Served):
    answer = server.bare(f"GET /state HTTP/1.1\nHost: {server.host}\nHost: evil.example\n\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert server.bare("GET /state HTTP/1.1\n\n").startswith(b"HTTP/1.1 400")
    assert server.bare("GET /state HTTP/1.0\n\n").startswith(b"HTTP/1.1 403")


OTHER_PORTS = ["http://localhost:{port}", "https://127.0.0.1", "http://127.0.0.1"]
ORIGINS = ["http://evil.example", "null", *OTHER_PORTS, "file://", ""]


@pytest.mark.parametrize("origin", [None, *ORIGINS])
@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs?name=a.mp4"), ("DELETE", "/jobs/x"), ("PUT", "/")])
def test_another_page_changes_nothing(server: Served, method: str, path: str, origin: str | None):
    """Neither does one that sends no origin: a browser's form may not."""
    headers = {} if origin is None else {"Origin": origin.format(port=server.port)}
    status, _, body = server.ask(method, path, video(), own=False, **headers)
    assert status == 403
    assert body.startswith(b"refused")
    assert server.states() == {}


@pytest.mark.parametrize("origin", ORIGINS)
def test_another_page_reads_nothing(server: Served, origin: str):
    assert server.ask(path="/state", Origin=origin.format(port=server.port))[0] == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_and_scripts_of_other_pages_do_not_come_from_here_but_links_lead_here(server: Served, site: str):
    assert server.ask(path="/state", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
    assert server.ask(path="/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 200
    assert server.ask(path="/state", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0] == 200


@pytest.mark.parametrize("origin", [None, *ORIGINS])
def test_another_page_gets_no_websocket(server: Served, origin: str | None):
    before = list(server.engine.opened)
    with pytest.raises(InvalidStatus) as refused:
        open_socket(server, **({} if origin is None else {"Origin": origin.format(port=server.port)}))
    assert refused.value.response.status_code == 403
    assert server.engine.opened == before


def test_its_own_page_gets_one(server: Served):
    before = len(server.engine.opened)
    open_socket(server, Origin=f"http://{server.host}")
    assert len(server.engine.opened) == before + 1


def test_a_foreign_name_gets_no_websocket(server: Served):
    key = base64.b64encode(os.urandom(16)).decode()
    answer = server.bare(
        f"GET /live HTTP/1.1\nHost: evil.example\nOrigin: http://evil.example\nUpgrade: websocket\n"
        f"Connection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: {key}\n\n"
    )
    assert answer.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("path", ["/", "/state", "/nowhere", "/jobs/x/y", "/recorder.js", "/docs", "/openapi.json"])
def test_every_answer_says_what_a_browser_may_do_with_it(server: Served, path: str):
    status, headers, _ = server.ask(path=path)
    for name, value in HEADERS.items():
        if (path, name) != ("/", "Content-Security-Policy"):
            assert headers[name.lower()] == value
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers
    if path in ("/docs", "/openapi.json", "/nowhere"):
        assert status == 404


def test_asking_beforehand_allows_nothing(server: Served):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = server.ask("OPTIONS", "/jobs", own=False, **asked)
    assert status == 403
    assert not any(name.startswith("access-control") for name in headers)


def test_without_the_token_nothing_is_answered(guarded: Served):
    asked = [("GET", path) for path in ("/", "/state", "/recorder.js", "/events", "/jobs/x/y")]
    for method, path in [*asked, ("POST", "/jobs?name=a.mp4"), ("DELETE", "/jobs/x")]:
        status, headers, body = guarded.ask(method, path)
        assert status == 401
        assert b"token" in body
        assert "set-cookie" not in headers
    for wrong in ("", TOKEN[:-1], TOKEN.upper(), f"{TOKEN}x", "ä"):
        assert guarded.ask(path="/state", Authorization=f"Bearer {wrong}")[0] == 401
        assert guarded.ask(path=f"/?token={wrong.encode().hex()}")[0] == 401
    with pytest.raises(InvalidStatus) as refused:
        open_socket(guarded, Origin=f"http://{guarded.host}")
    assert refused.value.response.status_code == 401


def test_the_token_is_given_once_and_a_browser_keeps_another(guarded: Served):
    status, headers, _ = guarded.ask(path=f"/?token={TOKEN}")
    assert status == 303
    assert headers["location"] == "/"
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    kept = cookie.partition(";")[0]
    assert guarded.ask(path="/state", Cookie=kept)[0] == 200
    assert guarded.ask(path="/state", Cookie=f"other=1; {kept}")[0] == 200
    assert guarded.ask(path="/state", Cookie=kept[:-1])[0] == 401
    assert guarded.ask(path="/state", Cookie=kept, Origin="http://evil.example")[0] == 403
    open_socket(guarded, Origin=f"http://{guarded.host}", Cookie=kept)


def test_the_token_leads_to_no_other_host(guarded: Served):
    for path in ("//evil.example", "/%2f%2fevil.example/", "/jobs/..//evil.example"):
        status, headers, _ = guarded.ask(path=f"{path}?token={TOKEN}")
        if status == 303:
            assert headers["location"].startswith("/")
            assert not headers["location"].startswith("//")


def test_a_script_brings_the_token_in_a_header(guarded: Served):
    assert guarded.ask(path="/state", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert guarded.ask("DELETE", "/jobs/x", Authorization=f"Bearer {TOKEN}")[0] == 404


def test_a_token_of_any_letters_is_brought_as_a_terminal_writes_it():
    token = "ein-geheimes-Wört-für-zwölf"
    with served(token=token, host="0.0.0.0") as server:
        written = f"Bearer {token}".encode().decode("latin-1")
        assert server.ask(path="/state", Authorization=written)[0] == 200
        assert server.ask(path="/state", Authorization=f"{written}\xff")[0] == 401
        assert server.ask(path=f"/?token={quote(token)}")[0] == 303


def test_what_others_can_reach_goes_by_its_addresses_and_the_machines_name_alone(guarded: Served):
    for host in ("192.168.7.9", "[fe80::1]", socket.gethostname(), "localhost"):
        assert guarded.ask(path="/state", Host=host, Authorization=f"Bearer {TOKEN}")[0] == 200
    for host in ("evil.example", "192.168.7.9.evil.example"):
        assert guarded.ask(path="/state", Host=host, Authorization=f"Bearer {TOKEN}")[0] == 403


def test_what_is_loopback():
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost", "LocalHost"):
        assert is_loopback(host)
        assert "*" not in names_of(host)
    for host in ("0.0.0.0", "::", "192.168.0.4", "example.org", ""):
        assert not is_loopback(host)
