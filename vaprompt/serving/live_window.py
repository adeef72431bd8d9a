"""The last seconds before a camera, as a run wants them: each picture and each window of sound encoded once.

A window of ten seconds needs twenty of its pictures; the next one, a tenth of a second later, needs mostly others. So
every picture that is taken is encoded, its embedding is held for as long as a window lasts, and a prediction gathers
embeddings. Sound is encoded on the grid on which the run was trained.

Axes: N pictures, A windows of sound, S audio steps, D channels, K regions, L samples.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int16, UInt8

from vaprompt.encoders.base import AudioEncoder
from vaprompt.extraction.grid import audio_ends
from vaprompt.extraction.handover import stored
from vaprompt.media.microphone import Microphone
from vaprompt.prediction.predict import Predictor
from vaprompt.training.loop import end_values
from vaprompt.windows import cut_windows

PICTURES_A_SECOND = 10.0
"""That are taken at most: five times as many as a window of the paper's uses."""
MOST_PICTURES = 4096
"""Embeddings that are held at most, whatever times they claim."""
NOTHING = np.zeros(0, np.float16)
"""The embedding of a picture that nobody looks at."""
SILENT = 1e-10
"""The power that stands for digital silence: -100 dB of full scale."""
SOUND_LAG = 0.5
"""Seconds for which sound that belongs to a picture is waited for; then it counts as silence."""


@dataclass(frozen=True)
class Moment:
    """What the run says of the window that ends now."""

    time: float
    """Seconds since the view began."""
    valence: float
    arousal: float
    region_K: Float32[np.ndarray, "K"]
    """Probability of each region."""
    gate: float | None
    """How much sound was let in, 0 to 1; None without a gate."""
    filled: float
    """Seconds of the window that have been seen."""


class LiveWindow:
    """Embeddings of the last seconds; one thread may see while another listens."""

    def __init__(self, predictor: Predictor, sound: int | None) -> None:
        """Begin with an empty window, in silence.

        Args:
            predictor: the run and its encoders.
            sound: samples a second of the microphone; None without one.

        Raises:
            MediaError: no sound has that rate.
        """
        self._run, self._seeing, self._hearing = predictor.run, predictor.seeing, predictor.hearing
        self._audio, self._window = predictor.recipe.audio, predictor.run.recipe.window
        held = self._audio.window + self._audio.hop + 2 * SOUND_LAG
        self._microphone: Microphone | None = None
        if sound is not None and self._hearing is not None:
            self._microphone = Microphone(sound, self._hearing.rate, held)
        self._changing = threading.Lock()
        self._time_N: list[float] = []
        self._embedding_ND: list[Float16[np.ndarray, "D"]] = []
        # What is known at the first picture: silence.
        first = float(audio_ends(0.0, window=self._audio.window, hop=self._audio.hop)[-1])
        self._heard: tuple[float, Float16[np.ndarray, "S D"] | None] = (first, None)
        if self._hearing is not None:
            silence_L = np.zeros(round(self._audio.window * self._hearing.rate), np.float32)
            self._heard = (first, _encoded(self._hearing, silence_L))
        self._now = 0.0

    def see(self, time: float, rgb_HWC: UInt8[np.ndarray, "H W 3"]) -> None:
        """Encode a picture; times in seconds ascend from 0. A run that only listens takes its time alone."""
        embedding_1D = None if self._seeing is None else stored(self._seeing.encode(rgb_HWC[None]), "image")
        with self._changing:
            self._now = time
            self._time_N.append(time)
            self._embedding_ND.append(NOTHING if embedding_1D is None else embedding_1D[0])
            # One from before the window stays: it is repeated where the window holds none.
            before = sum(taken <= time - self._window.seconds for taken in self._time_N)
            old = max(0, before - 1, len(self._time_N) - MOST_PICTURES)
            del self._time_N[:old], self._embedding_ND[:old]

    def hear(self, time: float, wave_L: Int16[np.ndarray, "L"]) -> float:
        """Take in sound that was heard at a time, in seconds; return its level, in dB of full scale.

        Raises:
            MediaError: it is too much at once, or lies at no time.
        """
        if self._microphone is not None:
            with self._changing:
                self._microphone.hear(time, wave_L)
        power = float(np.mean(np.square(wave_L / 32768.0))) if len(wave_L) else 0.0
        return 10 * math.log10(max(power, SILENT))

    def listen(self) -> bool:
        """Encode the latest window of sound that is due; return whether there was one."""
        with self._changing:
            if self._microphone is None or self._hearing is None:
                return False
            reached = max(self._microphone.reached, self._now - SOUND_LAG)
            end = float(audio_ends(max(reached, 0.0), window=self._audio.window, hop=self._audio.hop)[-1])
            if end <= self._heard[0]:
                return False
            wave_L = self._microphone.window(end, self._audio.window)
        # Apart from the lock: pictures go on meanwhile.
        heard = (end, _encoded(self._hearing, wave_L))
        with self._changing:
            self._heard = heard
        return True

    def moment(self) -> Moment:
        """Return what the run says now; at least one picture has been seen."""
        with self._changing:
            time_N = np.array(self._time_N)
            embedding_ND, (heard, embedding_SD), now = np.stack(self._embedding_ND), self._heard, self._now
        windows = cut_windows(
            np.array([now]),
            # A view's time begins with its first picture, which may be gone by now.
            time_F=np.array([0.0, now]) if now > 0 else np.zeros(1),
            image_time_N=time_N,
            audio_end_A=np.array([heard]),
            seconds=self._window.seconds,
            frames=self._window.frames,
        )
        with torch.inference_mode():
            device = self._run.device
            image_1TD = None if self._seeing is None else torch.from_numpy(embedding_ND[windows.image_WT]).to(device)
            audio_1SD = None if embedding_SD is None else torch.from_numpy(embedding_SD[None]).to(device)
            estimate = self._run.estimator(*(None if one is None else one.float() for one in (image_1TD, audio_1SD)))
            value_2 = end_values(estimate)[0].float().cpu().numpy()
            region_K = estimate.region_BK[0].softmax(dim=0).float().cpu().numpy()
            gate = None if estimate.gate_BTD is None else float(estimate.gate_BTD.mean())
        filled = min(now, self._window.seconds)
        return Moment(now, float(value_2[0]), float(value_2[1]), region_K, gate, filled)


def _encoded(hearing: AudioEncoder, wave_L: Float32[np.ndarray, "L"]) -> Float16[np.ndarray, "S D"]:
    embedding_1SD = stored(hearing.encode(torch.from_numpy(wave_L[None])), "audio")
    embedding_SD: Float16[np.ndarray, "S D"] = embedding_1SD[0]
    return embedding_SD
