"""The live view: what it says is what the run says of the last seconds, and it never falls behind."""

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.faces.people import Scripted
from tests.media.clips import write_clip
from tests.prediction.cheap import Colours, Loudness, use
from vaprompt.media.video import read_frames
from vaprompt.prediction.predict import Predictor, load_predictor, predict
from vaprompt.serving.live import LiveView
from vaprompt.serving.live_window import LiveWindow

RATE = 16000


def jpg(rgb: np.ndarray | int = 128, size: tuple[int, int] = (64, 48)) -> bytes:
    picture = np.full((size[1], size[0], 3), rgb, np.uint8) if isinstance(rgb, int) else rgb
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "jpeg", quality=95)
    return written.getvalue()


def sounds(wave: np.ndarray, length: int = 2000) -> Iterator[tuple[float, np.ndarray]]:
    for first in range(0, len(wave), length):
        yield first / RATE, np.round(wave[first : first + length] * 32767).astype(np.int16)


class Said:
    """What a view says, as it says it."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._came = threading.Condition()

    def __call__(self, message: dict[str, Any]) -> None:
        with self._came:
            self.all.append(message)
            self._came.notify_all()

    def wait(self, condition: Any, seconds: float = 10.0) -> Any:
        with self._came:
            assert self._came.wait_for(lambda: condition(self.all), seconds), self.all
            return condition(self.all)

    @property
    def points(self) -> list[dict[str, Any]]:
        return [message["point"] for message in self.all if "point" in message]

    @property
    def fault(self) -> str:
        return str(self.wait(lambda said: next((message["fault"] for message in said if "fault" in message), None)))


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    use(monkeypatch, faces="frames")
    return load_predictor(Path("run"))


@pytest.fixture
def said() -> Said:
    return Said()


def opened(predictor: Predictor, said: Said, sound: int | None = None) -> LiveView:
    view = LiveView(predictor, 7, sound, said)
    said.wait(lambda so_far: any("opened" in message for message in so_far))
    return view


def uneven(encode: Any) -> Any:
    """Return an encoding whose channels differ: a network that norms them sees nothing in those that are all alike."""

    def encoded(self: Any, given: Any) -> torch.Tensor:
        alike = encode(self, given)
        channel_D = torch.arange(alike.shape[-1])
        return torch.sin(channel_D) + 3 * alike * torch.cos(channel_D)

    return encoded


ALONE = [pytest.param((modality,), marks=pytest.mark.slow) for modality in ("image", "audio")]


@pytest.mark.parametrize("modalities", [("image", "audio"), *ALONE])
def test_it_says_what_predict_says_of_a_recorded_video(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, modalities: tuple[str, ...]
):
    """At each moment, of the window that ends there: as far as it may know, for it hears sound as it comes."""
    # As low as the encoder of sound takes, which has 100 samples a second.
    wave = np.sin(2 * np.pi * 20 * np.arange(9 * RATE) / RATE) * np.linspace(0, 1, 9 * RATE)
    clip = write_clip(
        tmp_path / "clip.mov", times_ms=range(0, 9000, 100), sound=wave[:, None], sound_rate=RATE, audio="pcm_s16le"
    )
    use(monkeypatch, faces="frames", modalities=modalities)
    for encoder in (Colours, Loudness):
        monkeypatch.setattr(encoder, "encode", uneven(encoder.encode))
    predictor = load_predictor(Path("run"))
    (whole,) = predict(Path("run"), [clip], tmp_path / "out", every=1).done
    window = LiveWindow(predictor, RATE)
    pieces, compared = list(sounds(wave)), 0
    for index, (taken, picture) in enumerate(zip(whole.time_F, read_frames(clip), strict=True)):
        while pieces and pieces[0][0] <= taken + 0.2:
            window.hear(*pieces.pop(0))
        window.see(float(taken), picture.rgb_HWC)
        window.listen()
        moment = window.moment()
        assert moment.time == pytest.approx(taken)
        assert moment.filled == pytest.approx(min(taken, 4.0))
        assert moment.region_K.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose((moment.valence, moment.arousal), whole.value_F2[index], atol=2e-3)
        compared += 1
    assert compared == 90
    assert np.ptp(whole.value_F2, axis=0).max() > 0.01


def test_pictures_that_come_faster_than_they_are_worked_on_are_dropped_and_the_latest_counts(
    predictor: Predictor, said: Said, monkeypatch: pytest.MonkeyPatch
):
    encode, going = Colours.encode, threading.Event()

    def slow(self: Colours, image: np.ndarray) -> Any:
        going.set()
        time.sleep(0.15)
        return encode(self, image)

    view = opened(predictor, said)
    monkeypatch.setattr(Colours, "encode", slow)
    for index in range(40):
        view.picture(index * 0.02, jpg())
        time.sleep(0.02)
    said.wait(lambda so_far: sum("took" in message for message in so_far) == 40)
    view.close()
    worked = [point["time"] for point in said.points]
    assert worked == sorted(worked)
    assert worked[-1] == pytest.approx(0.78)
    assert 3 <= len(worked) <= 8
    assert said.points[-1]["dropped"] == 40 - len(worked)
    # Each is answered once, and none is worked on that waited for more than one other.
    assert sorted(message["took"] for message in said.all if "took" in message) == pytest.approx(
        [index * 0.02 for index in range(40)]
    )
    assert {message["live"] for message in said.all} == {7}


def test_a_face_is_followed_and_without_one_there_is_no_value(monkeypatch: pytest.MonkeyPatch, said: Said):
    use(monkeypatch, detector=Scripted(lambda at: [(0.9, 0.5, 0.4, 0.3)] if at < 1.1 else []))
    view = opened(load_predictor(Path("run")), said)
    for index in range(40):
        view.picture(index * 0.1, jpg())
        said.wait(lambda so_far, index=index: sum("took" in message for message in so_far) == index + 1)
    view.close()
    there = [point["there"] for point in said.points]
    assert there[0]
    assert not there[-1]
    assert there == sorted(there, reverse=True)
    for point in said.points:
        assert ("valence" in point) == point["there"]
        assert (point["face"] is not None) == point["there"]
    x, y, side, angle = said.points[0]["face"]
    # In shares of the picture's width and height.
    assert (x, y, side, angle) == pytest.approx((0.5, 0.4 * 64 / 48, 0.3, 0.0), abs=1e-6)


def test_sound_is_heard_at_its_level(predictor: Predictor, said: Said):
    view = opened(predictor, said, RATE)
    for taken, piece in sounds(np.full(RATE, 0.1)):
        view.sound(taken, piece.astype("<i2").tobytes())
    time.sleep(0.1)
    view.picture(1.0, jpg())
    said.wait(lambda so_far: any("point" in message for message in so_far))
    view.close()
    assert said.points[0]["level"] == pytest.approx(-20, abs=0.1)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ([(0.0, b"\x89PNG\r\n\x1a\nxxxxxxxxxxxx")], "no jpg"),
        ([(0.0, b"\xff\xd8\xff garbage")], "the camera"),
        ([(0.0, jpg()[:200])], "; begin the live view again"),
        ([(0.0, jpg(size=(2000, 1100)))], "pixels"),
        ([(-1e300, jpg()), (float("nan"), jpg())], "begin the live view again"),
        ([(-1.0, jpg())], "is at -1 s"),
        ([(2.0, jpg()), (1.0, jpg())], "is at 1 s"),
        ([(1e9, jpg())], "is at 1e+09 s"),
    ],
)
def test_what_is_no_picture_at_a_time_ends_the_view_with_a_line(
    predictor: Predictor, said: Said, pictures: list[tuple[float, bytes]], words: str
):
    view = opened(predictor, said)
    for index, picture in enumerate(pictures):
        view.picture(*picture)
        said.wait(lambda so_far, index=index: any("fault" in one for one in so_far) or len(so_far) > index + 1)
    assert words in said.fault
    view.picture(5.0, jpg())
    time.sleep(0.05)
    assert "fault" in said.all[-1]


@pytest.mark.parametrize(("taken", "content"), [(-5.0, b"xx"), (float("inf"), b"xx"), (0.0, bytes(10**8))])
def test_what_is_no_sound_at_a_time_ends_the_view_with_a_line(
    predictor: Predictor, said: Said, taken: float, content: bytes
):
    opened(predictor, said, RATE).sound(taken, content)
    assert "the microphone" in said.fault


def test_memory_is_one_window_whatever_the_length(predictor: Predictor):
    window = LiveWindow(predictor, None)
    for index in range(3000):
        window.see(index * 0.1, np.zeros((8, 8, 3), np.uint8))
    assert len(window._time_N) <= 42
    window.moment()
