"""A live view: pictures and sound come in, points go out, and what cannot be done in time is dropped.

Two threads work beside the one that brings messages. One takes the latest picture, whatever came before it, finds the
face, encodes and predicts. The other encodes sound, which takes some encoders seconds, so that points go on meanwhile.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from vaprompt.errors import MediaError, VapromptError
from vaprompt.faces.crop import cut
from vaprompt.faces.detector import Faces
from vaprompt.faces.following import Follower
from vaprompt.media.crops import decode_picture
from vaprompt.media.limits import LONGEST_VIDEO
from vaprompt.media.video import scaled
from vaprompt.prediction.predict import Predictor
from vaprompt.serving.live_window import SOUND_LAG, LiveWindow, Moment

MOST_PIXELS = 1920 * 1080
CAMERA = "the camera"
Say = Callable[[dict[str, Any]], None]


class LiveView:
    """One camera, from its start to its end."""

    def __init__(self, predictor: Predictor, number: int, sound: int | None, say: Say) -> None:
        """Begin, and answer through `say`.

        Args:
            predictor: the run and its encoders.
            number: goes with every answer.
            sound: samples a second of the microphone; None without one.
            say: is called by several threads.
        """
        self.number = number
        self._predictor, self._sound, self._say_to = predictor, sound, say
        self._follower = Follower(predictor.recipe.face)
        self._window: LiveWindow | None = None
        self._came, self._heard = threading.Event(), threading.Event()
        self._changing = threading.Lock()
        self._latest: tuple[float, bytes] | None = None
        self._sounds: list[tuple[float, bytes]] = []
        self._over = False
        self._level = -100.0
        self._seen = -math.inf
        self._dropped = self._faceless = 0
        threading.Thread(target=self._work, args=(self._watch,), name="watching", daemon=True).start()

    def picture(self, taken: float, content: bytes) -> None:
        """Take a jpg; the one that waits still is dropped for it."""
        with self._changing:
            dropped, self._latest = self._latest, (taken, content)
            self._dropped += dropped is not None
        if dropped is not None:
            self._say({"took": dropped[0], "dropped": True})
        self._came.set()

    def sound(self, taken: float, content: bytes) -> None:
        """Take mono samples of 16 bits, little-endian."""
        with self._changing:
            self._sounds.append((taken, content))
            del self._sounds[:-1024]  # a minute and a half, should the thread not come to them
        self._heard.set()

    def close(self) -> None:
        """Take nothing more."""
        self._over = True
        self._came.set()
        self._heard.set()

    def _work(self, part: Callable[[], None]) -> None:
        try:
            part()
        except VapromptError as error:
            self._say({"fault": str(error)})
            self.close()
        except OSError:
            self.close()  # nobody is there any more
        except Exception as error:
            self._say({"fault": f"a fault in vaprompt itself: {error!r}"})
            self.close()
            raise

    def _watch(self) -> None:
        """Predict at each picture."""
        self._window = LiveWindow(self._predictor, self._sound)
        threading.Thread(target=self._work, args=(self._listen,), name="listening", daemon=True).start()
        self._say({"opened": True})
        while True:
            self._came.wait()
            self._came.clear()
            if self._over:
                return
            with self._changing:
                waiting, self._latest = self._latest, None
            if waiting is not None:
                self._see(self._window, *waiting)

    def _see(self, window: LiveWindow, taken: float, content: bytes) -> None:
        if not (0 <= taken <= LONGEST_VIDEO and self._seen < taken):
            raise MediaError(CAMERA, fault=f"is at {taken:.6g} s", remedy="begin the live view again")
        self._seen = taken
        began = time.perf_counter()
        if not content.startswith(b"\xff\xd8"):
            raise MediaError(CAMERA, fault="sends what is no jpg", remedy="send pictures as jpg")
        rgb_HWC = decode_picture(content, CAMERA, most_pixels=MOST_PIXELS, remedy="begin the live view again")
        placement_4 = self._face(taken, rgb_HWC)
        there = self._predictor.detector is None or placement_4 is not None
        if there:
            recipe = self._predictor.recipe.face
            window.see(taken, rgb_HWC if placement_4 is None else cut(rgb_HWC, placement_4, recipe.size, recipe.scale))
        point = _told(window.moment()) if there else {"time": taken}
        self._say(
            {
                "took": taken,
                "point": {
                    **point,
                    "there": there,
                    "face": None if placement_4 is None else _corners(placement_4, rgb_HWC),
                    "level": self._level,
                    "dropped": self._dropped,
                    "milliseconds": 1000 * (time.perf_counter() - began),
                },
            }
        )

    def _face(self, taken: float, rgb_HWC: UInt8[np.ndarray, "H W 3"]) -> Float64[np.ndarray, "4"] | None:
        detector, recipe = self._predictor.detector, self._predictor.recipe.face
        if detector is None:
            return None
        if self._follower.due(taken):
            small_HWC = scaled(rgb_HWC, recipe.side)
            width = small_HWC.shape[1]
            faces = detector(small_HWC, min(recipe.keep, recipe.start))
            self._follower.look(taken, Faces(faces.score_K, faces.box_K4 / width, faces.landmark_KP2 / width))
        return self._follower.placement(taken)

    def _listen(self) -> None:
        """Encode sound as it becomes due."""
        window = self._window
        assert window is not None
        while not self._over:
            # Also without any sound: it is silent then.
            self._heard.wait(SOUND_LAG)
            self._heard.clear()
            with self._changing:
                sounds, self._sounds = self._sounds, []
            for taken, content in sounds:
                self._level = window.hear(
                    taken, np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.int16)
                )
            window.listen()

    def _say(self, message: dict[str, Any]) -> None:
        if not self._over:
            self._say_to({"live": self.number, **message})


def _told(moment: Moment) -> dict[str, Any]:
    return {
        "time": moment.time,
        "valence": moment.valence,
        "arousal": moment.arousal,
        "regions": [round(float(share), 4) for share in moment.region_K],
        "gate": moment.gate,
        "filled": moment.filled,
    }


def _corners(placement_4: Float64[np.ndarray, "4"], rgb_HWC: UInt8[np.ndarray, "H W 3"]) -> list[float]:
    """Return where the crop is, in shares of the picture: centre x and y, side in widths; and its angle."""
    height, width = rgb_HWC.shape[:2]
    x, y, side, angle = placement_4
    return [float(x), float(y) * width / height, math.exp(float(side)), float(angle)]
