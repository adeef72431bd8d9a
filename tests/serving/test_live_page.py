"""The camera on the server's page, in a real browser with a camera and a microphone that it makes up."""

import io
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.browsing import PHONE, Tab
from tests.serving.service import Served, served


@pytest.fixture
def opened(tab: Tab, server: Served) -> Iterator[Tab]:
    tab.allowed.append(f"ws://{server.host}/")
    tab.open(server.url)
    yield tab
    if server.engine.live is not None:
        tab.chrome.get("about:blank")
        server.wait(lambda: server.engine.live is None)


def begin(tab: Tab, *, sound: bool = True) -> None:
    if not sound:
        tab.one("#live-sound").click()
    tab.one("#live-start").click()
    tab.wait(lambda: "points a second" in tab.one("#live-figures").text)


def test_pictures_keep_their_order_in_a_browser_that_is_not_done_with_them_in_order(opened: Tab, server: Served):
    opened.script(
        """
        const original = HTMLCanvasElement.prototype.toBlob;
        let count = 0;
        HTMLCanvasElement.prototype.toBlob = function (done, ...rest) {
          const late = count++ % 2 ? 0 : 250;
          original.call(this, (blob) => setTimeout(() => done(blob), late), ...rest);
        };
        """
    )
    begin(opened)
    opened.wait(lambda: len(server.engine.pictures) >= 8)
    pictures = [taken for kind, taken, _ in server.engine.brought if kind == "picture"]
    assert pictures == sorted(pictures)


def test_pictures_and_sound_go_to_the_server_and_points_come_back(opened: Tab, server: Served):
    begin(opened)
    opened.wait(lambda: len(server.engine.pictures) >= 15)
    figures = opened.one("#live-figures").text
    for words in ("valence 0.50, arousal \u22120.25", "sound let in 30 %", "the window fills", "pictures left out"):
        assert words in figures
    assert opened.script("return document.getElementById('live-level').value") == -30
    assert opened.one("#plane .plane-person").get_attribute("display") is None
    assert opened.one("#live-regions .most .number").text == "60 %"
    assert len(opened.one("#live-boxes .face-box").get_attribute("points").split()) == 4
    opened.picture("serve-live", "#live")
    opened.wait(lambda: "no face is seen" in opened.one("#live-figures").text)
    # Whoever sees no page is told now and then.
    assert "valence" in opened.script("return document.getElementById('live-said').textContent")

    brought = list(server.engine.brought)
    pictures = [taken for kind, taken, _ in brought if kind == "picture"]
    assert pictures == sorted(pictures)
    assert 0.07 < np.median(np.diff(pictures)) < 0.2
    with Image.open(io.BytesIO(server.engine.pictures[-1])) as picture:
        assert picture.format == "JPEG"
        assert max(picture.size) <= 640
    # Sound lies without gaps on the clock of the pictures.
    rate = server.engine.opened[0]
    heard = [(taken, size) for kind, taken, size in brought if kind == "sound"]
    assert 8000 <= rate <= 192_000
    assert len(heard) > 10
    starts = np.array([taken for taken, _ in heard])
    ends = starts + np.array([size for _, size in heard]) / 2 / rate
    assert np.abs(starts[1:] - ends[:-1]).max() < 0.1
    assert abs(ends[-1] - pictures[-1]) < 2  # whichever a busy machine brought last


def test_a_camera_whose_pictures_change_their_shape_is_not_squeezed(opened: Tab, server: Served):
    """As a phone's do when it is turned."""
    begin(opened, sound=False)
    for shape in ((240, 320), (320, 180)):
        opened.script(
            "const [track] = document.getElementById('live-video').srcObject.getVideoTracks();"
            "return track.applyConstraints({width: {exact: arguments[0]}, height: {exact: arguments[1]}})",
            *shape,
        )

        def taken() -> tuple[int, int]:
            with Image.open(io.BytesIO(server.engine.pictures[-1])) as picture:
                return picture.size

        opened.wait(lambda taken=taken, shape=shape: taken() == shape)
        shown = opened.script("return document.getElementById('live-stage').style.getPropertyValue('--shape')")
        assert float(shown) == pytest.approx(shape[0] / shape[1])


def test_it_ends_when_it_is_told_to_and_begins_again(opened: Tab, server: Served):
    begin(opened, sound=False)
    assert server.engine.opened == [None]
    opened.one("#live-stop").click()
    server.wait(lambda: server.engine.live is None)
    assert opened.one("#live-told").text == "stopped"
    assert not opened.script("return document.getElementById('live-video').srcObject")
    count = len(server.engine.pictures)
    time.sleep(0.3)
    assert len(server.engine.pictures) == count
    opened.one("#live-sound").click()
    begin(opened)
    server.wait(lambda: {kind for kind, _, _ in server.engine.brought} == {"picture", "sound"})


def test_a_fault_is_told_and_the_camera_let_go(opened: Tab, server: Served):
    begin(opened)
    server.engine.live.said({"live": 1, "fault": "the camera: <b>is at</b> -1 s; begin again"})
    opened.wait(lambda: "<b>is at</b> -1 s" in opened.one("#live-told").text)
    assert opened.one("#live-start").is_displayed()
    assert not opened.script("return document.getElementById('live-video').srcObject")


def test_only_one_page_at_a_time(opened: Tab, server: Served):
    begin(opened)
    first = opened.chrome.current_window_handle
    opened.chrome.switch_to.new_window("tab")
    try:
        opened.chrome.get(server.url)
        opened.one("#live-start").click()
        opened.wait(lambda: "in use on another page" in opened.one("#live-told").text)
        assert opened.one("#live-start").is_displayed()
    finally:
        opened.chrome.close()
        opened.chrome.switch_to.window(first)


def test_a_camera_that_is_not_given_is_told(opened: Tab):
    opened.script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError'); }"
    )
    opened.one("#live-start").click()
    opened.wait(lambda: "was told not to give it" in opened.one("#live-told").text)
    assert opened.one("#live-start").is_displayed()
    opened.script("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    opened.one("#live-start").click()
    opened.wait(lambda: "ssh -L" in opened.one("#live-told").text)


def test_without_a_microphone_it_goes_on_without_sound(opened: Tab, server: Served):
    opened.script("""
        const give = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          if (wanted.audio) throw new DOMException("none", "NotFoundError");
          return give(wanted);
        };""")
    begin(opened)
    assert "without sound" in opened.one("#live-told").text
    assert server.engine.opened == [None]


def test_ended_before_it_has_begun_it_lets_go_and_another_goes_on(opened: Tab, server: Served):
    opened.script("""
        const give = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.given = [];
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          window.given.push(await give(wanted));
          return window.given.at(-1);
        };
        for (const id of ["live-start", "live-stop", "live-start"]) document.getElementById(id).click();""")
    opened.wait(lambda: "points a second" in opened.one("#live-figures").text)
    # What is told of a view that has ended is nothing to the one after it.
    opened.script("for (const id of ['live-stop', 'live-start']) document.getElementById(id).click();")
    opened.wait(lambda: len(server.engine.opened) == 2 and server.engine.live is not None)
    count = len(server.engine.pictures)
    opened.wait(lambda: len(server.engine.pictures) > count + 5)
    assert len(server.engine.opened) == 2
    assert opened.one("#live-stop").is_displayed()
    playing = opened.script("return window.given.map((stream) => stream.active)")
    assert playing == [False, False, True]


def test_the_view_fits_a_phone(opened: Tab):
    opened.resize(*PHONE)
    begin(opened)
    opened.settle()
    assert opened.overflow() == 0
    opened.picture("serve-live-phone", "#live")


def test_with_a_token_the_camera_works_too(tab: Tab):
    token = "a-token-that-nobody-guesses"
    with served(token=token, host="0.0.0.0") as server:
        tab.allowed += [f"ws://{server.host}/", server.url]
        tab.open(f"{server.url}?token={token}")
        assert tab.chrome.current_url == server.url
        begin(tab)
        assert server.engine.opened[0] is not None
        tab.chrome.get("about:blank")
        server.wait(lambda: server.engine.live is None)
