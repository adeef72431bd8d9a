"""The server's page as a person meets it in a browser, and what a page from elsewhere can do to it: nothing."""

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browsing import PHONE, Tab
from tests.serving.service import Served, failing, served, video
from vaprompt.serving.limits import Limits

EVIL = "<img src=x onerror=alert(1)>.mp4"

DROP = """
const [name, size, head] = arguments;
const bytes = new Uint8Array(size);
bytes.set(head);
const held = new DataTransfer();
held.items.add(new File([bytes], name));
const over = (kind) => new DragEvent(kind, {dataTransfer: held, bubbles: true, cancelable: true});
const place = document.querySelector("main");
place.dispatchEvent(over("dragenter"));
const shown = document.getElementById("drop").classList.contains("over");
const taken = !place.dispatchEvent(over("dragover")) && !place.dispatchEvent(over("drop"));
return shown && taken && !document.getElementById("drop").classList.contains("over");
"""

ASKING = """<!doctype html><title>elsewhere</title><script>
const target = TARGET, tried = [];
const outcome = (name, work) => work.then((told) => tried.push([name, told]), () => tried.push([name, "refused"]));
const socket = new Promise((done, fail) => {
  const opened = new WebSocket(target.replace("http", "ws") + "live");
  opened.onopen = () => done("open");
  opened.onerror = fail;
});
const picture = new Promise((done, fail) => {
  const image = new Image();
  image.onload = () => done("shown");
  image.onerror = fail;
  image.src = target + "recorder.js";
});
const script = new Promise((done, fail) => {
  const element = document.createElement("script");
  element.onload = () => done("run");
  element.onerror = fail;
  element.src = target + "recorder.js";
  document.head.append(element);
});
Promise.all([
  outcome("read", fetch(target + "state").then((answer) => answer.text())),
  outcome("upload", fetch(target + "jobs?name=a.mp4", {method: "POST", body: new Blob(["x"])}).then((a) => a.text())),
  outcome("blind upload", fetch(target + "jobs", {method: "POST", mode: "no-cors", body: "x"}).then((a) => a.type)),
  outcome("blind read", fetch(target + "state", {mode: "no-cors"}).then((answer) => answer.type)),
  outcome("remove", fetch(target + "jobs/JOB", {method: "DELETE"}).then((answer) => answer.text())),
  outcome("events", new Promise((done, fail) => {
    const events = new EventSource(target + "events");
    events.onmessage = done;
    events.onerror = fail;
  })),
  outcome("socket", socket), outcome("picture", picture), outcome("script", script),
]).then(() => { window.tried = Object.fromEntries(tried); });
</script><iframe></iframe>"""


@pytest.fixture
def opened(tab: Tab, server: Served) -> Tab:
    tab.allowed.append(f"ws://{server.host}/")
    tab.open(server.url)
    return tab


def write(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def test_a_video_is_chosen_followed_and_opened(opened: Tab, server: Served, tmp_path: Path):
    server.engine.go.clear()
    files = [write(tmp_path, name, video(300_000)) for name in (EVIL, "second.mp4")]
    opened.one("#files").send_keys("\n".join(files))
    first = opened.one('.job[data-state="working"]')
    opened.wait(lambda: "finding faces in the video: 0:01 of 0:04" in first.text)
    assert EVIL in first.text
    assert float(first.find_element(By.TAG_NAME, "progress").get_attribute("value")) == 0.25
    waiting = opened.one('.job[data-state="waiting"]')
    assert "waiting, next" in waiting.text
    opened.picture("serve-videos-at-work", ".card")
    server.engine.go.set()
    opened.wait(lambda: len(opened.all('.job[data-state="done"]')) == 2)
    assert "a note" in first.text
    assert "1 frame, 0:00" in first.text
    opened.picture("serve-videos")
    links = {link.text: link.get_attribute("href") for link in first.find_elements(By.TAG_NAME, "a")}
    assert set(links) == {"Open", "CSV"}
    opened.script("return fetch(arguments[0]).then((answer) => answer.text())", links["CSV"])
    first.find_element(By.LINK_TEXT, "Open").click()
    opened.wait(lambda: opened.chrome.title == "page")
    opened.chrome.back()
    opened.one('.job[data-state="done"] button').click()
    opened.wait(lambda: len(opened.all(".job")) == 1)
    assert list(server.states()) == ["second.mp4"]


def test_a_video_is_dropped_anywhere(opened: Tab, server: Served):
    assert opened.script(DROP, "talk.mp4", 5_000_000, list(video(100)[:40]))
    opened.one('.job[data-state="done"]')
    assert server.listed()[0]["bytes"] == 5_000_000
    assert server.listed()[0]["name"] == "talk.mp4"


def test_by_keyboard_alone(opened: Tab, server: Served, tmp_path: Path):
    server.engine.go.clear()
    opened.one("#files").send_keys(write(tmp_path, "a.mp4", video()))
    opened.one('.job[data-state="working"] button')
    for _ in range(12):
        ActionChains(opened.chrome).send_keys(Keys.TAB).perform()  # the field for files takes no keys of `press`
        if opened.chrome.switch_to.active_element.text == "Cancel":
            break
    opened.chrome.switch_to.active_element.send_keys(Keys.ENTER)
    opened.one('.job[data-state="cancelled"]')
    # Whoever uses a keyboard is not thrown back to the top.
    assert opened.chrome.switch_to.active_element.text == "Remove"
    assert opened.chrome.switch_to.active_element.accessible_name == "Remove a.mp4"
    assert "cancelled" in opened.script("return document.getElementById('said').textContent")


def test_what_is_not_taken_says_why(tab: Tab, tmp_path: Path):
    with served(Limits(bytes=50_000)) as server:
        server.engine.fault = failing("cannot be decoded; <b>convert</b> it")
        tab.open(server.url)
        contents = {
            "text.mp4": b"no video at all" * 100,
            "big.mp4": video(60_000),
            "empty.mp4": b"",
            "bad.mp4": video(),
        }
        tab.one("#files").send_keys("\n".join(write(tmp_path, *item) for item in contents.items()))
        tab.wait(lambda: len(tab.all('.job[data-state="failed"]')) == 4)
        shown = "\n".join(row.text for row in tab.all(".job"))
        for words in ("is no video that is read here", "60 kB; 50 kB are allowed", "is empty", "<b>convert</b> it"):
            assert words in shown
        tab.picture("serve-refused")
        for left in (3, 2, 1, 0):
            tab.one(".job button").click()
            tab.wait(lambda left=left: len(tab.all(".job")) == left)
        (refused,) = tab.forgive()
        assert "415" in refused


def test_a_server_that_is_gone_is_told(tab: Tab):
    with served() as server:
        tab.open(server.url)
        tab.settle()
        assert not tab.one("#lost").is_displayed()
    tab.wait(lambda: tab.one("#lost").is_displayed())
    assert all("CONNECTION_REFUSED" in fault or "INCOMPLETE" in fault for fault in tab.forgive())


def test_a_server_that_refuses_is_asked_again_and_its_reason_told(tab: Tab):
    """Browsers themselves ask no server again that answers with a refusal."""
    token = "a-token-that-nobody-guesses"
    with served(Limits(listeners=1), token=token, host="0.0.0.0") as server:
        other = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        other.request("GET", "/events", headers={"Authorization": f"Bearer {token}"})
        answer = other.getresponse()
        tab.allowed.append(server.url)
        tab.open(f"{server.url}?token={token}")
        tab.wait(lambda: "this page waits for it" in tab.one("#lost").text)
        cookies = tab.chrome.get_cookies()
        tab.chrome.delete_all_cookies()  # as good as a server that was started anew: it has another one
        tab.wait(lambda: "open the address that it printed" in tab.one("#lost").text)
        for cookie in cookies:
            tab.chrome.add_cookie(cookie)
        answer.close()
        other.close()
        server.ask("POST", "/jobs?name=a.mp4", video(), Authorization=f"Bearer {token}")
        tab.one('.job[data-state="done"]')
        assert not tab.one("#lost").is_displayed()
    assert all("503" in fault or "401" in fault for fault in tab.forgive() if "CONNECTION" not in fault)


def test_more_pages_than_a_browser_has_connections_look_at_the_same_queue(opened: Tab, server: Served):
    first = opened.chrome.current_window_handle
    try:
        for _ in range(7):
            opened.chrome.switch_to.new_window("tab")
            opened.chrome.get(server.url)
        server.send(video(), "a.mp4")
        opened.one('.job[data-state="done"]')
    finally:
        for other in opened.chrome.window_handles:
            opened.chrome.switch_to.window(other)
            if other != first:
                opened.chrome.close()
        opened.chrome.switch_to.window(first)
    opened.one('.job[data-state="done"]')
    server.send(video(), "b.mp4")
    opened.wait(lambda: len(opened.all('.job[data-state="done"]')) == 2)


def test_an_upload_that_is_given_up_while_it_is_sent_is_no_refusal(opened: Tab, server: Served):
    opened.script(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('said').textContent))"
        ".observe(document.getElementById('said'), {childList: true})"
    )
    slow = {"offline": False, "latency": 0, "downloadThroughput": 1e6, "uploadThroughput": 50_000}
    opened.chrome.execute_cdp_cmd("Network.enable", {})
    opened.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        assert opened.script(DROP, "long.mp4", 3_000_000, list(video(500)))
        opened.wait(lambda: "sending" in opened.one(".job").text)
        opened.one(".job button").click()
        opened.wait(lambda: not opened.all(".job"))
        opened.settle()
    finally:
        opened.chrome.execute_cdp_cmd("Network.disable", {})
    assert opened.script("return window.said") == []
    server.wait(lambda: not any(server.folder.iterdir()))


def test_on_a_phone_zoomed_and_in_the_dark(opened: Tab, server: Served):
    server.engine.fault = lambda title: None
    server.send(video(), "a very long name " * 11 + ".mp4")
    opened.one('.job[data-state="done"]')
    for width, height, density in ((*PHONE, 1), (320, 256, 4)):
        opened.resize(width, height, density=density, touch=True)
        opened.settle()
        assert opened.overflow() == 0
    opened.resize(*PHONE)
    opened.media(scheme="dark")
    opened.picture("serve-phone-dark")


@contextmanager
def elsewhere(page: str, name: str = "127.0.0.1") -> Iterator[str]:
    """Yield the address of a page on another server, by one of this machine's names."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            yield f"http://{name}:{other.server_address[1]}/"
        finally:
            other.shutdown()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_from_elsewhere_can_do_nothing_to_it(tab: Tab, server: Served, name: str):
    server.send(video(), "mine.mp4")
    server.wait(lambda: server.states() == {"mine.mp4": "done"})
    (job,) = server.listed()
    target = f"http://{name}:{server.port}/"
    tab.allowed += [target, target.replace("http", "ws")]
    with elsewhere(ASKING.replace("TARGET", f"'{target}'").replace("JOB", job["id"])) as page:
        tab.open(page)
        tried = tab.wait(lambda: tab.script("return window.tried"))
        tab.forgive()
    # What is sent blindly is answered, by a refusal that the page cannot read.
    assert tried.pop("blind upload") in ("opaque", "refused")
    assert tried.pop("blind read") in ("opaque", "refused")
    assert set(tried.values()) == {"refused"}, tried
    assert server.listed() == [job]
    assert server.engine.opened == []


def test_the_address_with_the_token_can_be_a_link_on_another_site(tab: Tab):
    token = "a-token-that-nobody-guesses"
    with served(token=token, host="0.0.0.0") as server:
        tab.allowed.append(server.url)
        with elsewhere(f"<!doctype html><a href='{server.url}?token={token}'>here</a>", "localhost") as page:
            tab.open(page)
            tab.one("a").click()
            tab.wait(lambda: tab.chrome.current_url == server.url)
            tab.one("#files")
            assert not tab.one("#lost").is_displayed()
        tab.chrome.get("about:blank")
