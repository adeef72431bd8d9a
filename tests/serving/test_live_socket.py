"""The live view's websocket, to whatever is sent through it."""

import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.serving.service import Served, served
from vaprompt.serving.limits import Limits


@contextmanager
def live(server: Served, hello: str | bytes | None = '{"sound": 48000}') -> Iterator[ClientConnection]:
    address, own = f"ws://{server.host}/live", {"Origin": f"http://{server.host}"}
    with connect(address, additional_headers=own, open_timeout=10, max_size=2**20) as opened:
        if hello is not None:
            opened.send(hello)
        yield opened


def closed(opened: ClientConnection) -> tuple[int, list[dict]]:
    """Return the code with which it ends, and what is said before."""
    said = []
    while True:
        try:
            said.append(json.loads(opened.recv(timeout=10)))
        except ConnectionClosed as ended:
            return ended.rcvd.code if ended.rcvd else 0, said


def free(server: Served) -> bool:
    return server.engine.live is None


def test_pictures_and_sound_are_handed_on_and_answers_come_back(server: Served):
    with live(server) as opened:
        assert json.loads(opened.recv())["opened"]
        opened.send(struct.pack("<Bd", 2, 0.25) + bytes(100))
        opened.send(struct.pack("<Bd", 1, 0.5) + b"\xff\xd8picture")
        assert json.loads(opened.recv())["took"] == 0.5
    server.wait(lambda: free(server))
    assert server.engine.brought == [("sound", 0.25, 100), ("picture", 0.5, 9)]
    assert server.engine.opened == [48000]


@pytest.mark.parametrize(
    "hello",
    [
        "", "{}", "[]", "null", '{"sound": "48000"}', '{"sound": -1}', '{"sound": true}', '{"sound": 1e9}', "[" * 5000,
        b"\x00\xff", '{"sound": 44100.5}', '{"sound": 99999999999999999999}',
    ],
)  # fmt: skip
def test_a_first_message_that_says_nothing_ends_it(server: Served, hello: str | bytes):
    with live(server, hello) as opened:
        code, said = closed(opened)
    assert code == 1013
    assert "sound" in said[-1]["fault"]
    assert server.engine.opened == []


@pytest.mark.parametrize(
    "message",
    [
        "text", b"", b"\x01", struct.pack("<Bd", 1, 0.0), struct.pack("<Bd", 3, 0.0) + b"x",
        struct.pack("<Bd", 1, float("nan")) + b"x", struct.pack("<Bd", 2, float("inf")) + b"x",
    ],
)  # fmt: skip
def test_what_is_neither_a_picture_nor_sound_ends_it(server: Served, message: str | bytes):
    with live(server) as opened:
        opened.recv()
        opened.send(message)
        code, said = closed(opened)
    assert code == 1008
    assert "neither a picture nor sound" in said[-1]["fault"]
    server.wait(lambda: free(server))
    assert server.engine.brought == []


def test_a_message_of_any_size_is_not_taken(server: Served):
    with live(server) as opened:
        opened.recv()
        with suppress(ConnectionClosed):
            opened.send(struct.pack("<Bd", 1, 0.0) + bytes(Limits.picture))
        # The rest is not read, and what the server says can be lost together with that.
        assert closed(opened)[0] in (1009, 0)
    server.wait(lambda: free(server))
    assert server.engine.brought == []


def test_one_at_a_time_and_the_next_when_that_has_ended(server: Served):
    with live(server) as first:
        first.recv()
        with live(server) as second:
            code, said = closed(second)
        assert code == 1013
        assert "in use on another page" in said[-1]["fault"]
    server.wait(lambda: free(server))
    with live(server) as third:
        assert json.loads(third.recv())["opened"]


def test_who_says_nothing_is_not_waited_for(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vaprompt.serving.app.HELLO", 0.1)
    with live(server, None) as opened:
        assert closed(opened)[0] == 1013


def test_what_the_process_cannot_do_is_told(server: Served):
    with live(server) as opened:
        opened.recv()
        server.engine.live.said({"live": 1, "fault": "the camera: sends what is no jpg; send pictures as jpg"})
        code, said = closed(opened)
    assert code == 1008
    assert "no jpg" in said[-1]["fault"]


HANDSHAKE = """GET /live HTTP/1.1
Host: {host}
Origin: http://{host}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==
Sec-WebSocket-Version: 13

"""


def test_a_page_that_is_gone_without_a_word_makes_room_for_another():
    """Such as one on a machine that was put to sleep: nothing ends its connection."""
    with served(Limits(silent=0.4)) as server:
        with server.connected() as connection:
            connection.sendall(HANDSHAKE.format(host=server.host).replace("\n", "\r\n").encode())
            assert b" 101 " in connection.recv(1000)
            hello = b'{"sound": null}'
            connection.sendall(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)
            server.wait(lambda: not free(server))
            server.wait(lambda: free(server))
        with live(server) as there:
            there.recv()
            time.sleep(1.6)
            assert not free(server)
