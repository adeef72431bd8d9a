"""What a face does at each instant: feeling, the person's habits, talking, blinking and plain restlessness together.

Axes: N instants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vaprompt.datasets.synthetic.person import Conditions, FaceIdentity
from vaprompt.datasets.synthetic.speech import Speech
from vaprompt.datasets.synthetic.trajectory import AffectPath, SmoothPath

TWITCH = 0.3
"""Standard deviation of the face's restlessness: what makes a single picture tell less than a stretch of time."""


@dataclass(frozen=True)
class Expression:
    """A face's momentary shape. Neutral is 0 throughout, but for the eyes (0.55 of their height)."""

    smile: float
    """Mouth corners: 1 far up, -1 far down."""
    mouth_open: float
    """0 closed to 1 wide open."""
    mouth_stretch: float
    brow_raise: float
    brow_tilt: float
    """1: inner ends far down (anger), -1: inner ends up (sorrow)."""
    eye_open: float
    cheek: float
    """0 to 1: how far a smile pushes the lower lids up."""
    gaze: tuple[float, float]
    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    """Movement of the head in the picture."""


class Behaviour:
    """A person's face over time."""

    def __init__(
        self,
        random: np.random.Generator,
        *,
        face: FaceIdentity,
        conditions: Conditions,
        affect: AffectPath,
        speech: Speech,
        seconds: float,
    ) -> None:
        """Draw how the person moves for `seconds` seconds, given what it feels and says."""
        self._face, self._affect, self._speech = face, affect, speech
        self._restless = conditions.restless
        self._twitch = SmoothPath(random, channels=6, shortest=0.25, longest=2.0)
        self._drift = SmoothPath(random, channels=5, shortest=3.0, longest=12.0)
        self._fidget = SmoothPath(random, channels=5, shortest=0.5, longest=2.0)
        self._blink_K = np.cumsum(random.exponential(2.8, int(seconds) + 8) + 0.3)

    def __call__(self, time_N: Float64[np.ndarray, "N"]) -> list[Expression]:
        """Return the expression at each of the given seconds."""
        face, gain = self._face, self._face.gain
        valence_N, arousal_N = self._affect(time_N).T
        pleased_N, displeased_N = np.maximum(valence_N, 0), np.maximum(-valence_N, 0)
        aroused_N, tired_N = np.maximum(arousal_N, 0), np.maximum(-arousal_N, 0)
        twitch_N6, drift_N5, fidget_N5 = TWITCH * self._twitch(time_N), self._drift(time_N), self._fidget(time_N)
        talk_N = self._speech.mouth(time_N)

        smile_N = gain * valence_N * (0.8 + 0.2 * arousal_N) + face.rest_smile + twitch_N6[:, 0]
        open_N = gain * 0.35 * aroused_N * (0.4 + np.abs(valence_N)) + 0.75 * talk_N + 0.3 * twitch_N6[:, 1]
        stretch_N = gain * (0.5 * pleased_N + 0.3 * displeased_N * aroused_N) - 0.25 * talk_N + 0.4 * twitch_N6[:, 1]
        raise_N = gain * (0.75 * arousal_N - 0.5 * displeased_N * aroused_N) + face.rest_brow + twitch_N6[:, 2]
        tilt_N = gain * (displeased_N * (0.25 + 0.75 * arousal_N)) + face.rest_tilt + 0.8 * twitch_N6[:, 3]
        eye_N = 0.55 + gain * (0.4 * arousal_N - 0.08 * pleased_N) + face.rest_eye + 0.5 * twitch_N6[:, 4]
        cheek_N = gain * 0.7 * pleased_N + 0.4 * twitch_N6[:, 5]
        closed_N = np.exp(-(((time_N[:, None] - self._blink_K) / 0.09) ** 4)).max(axis=1)
        eye_N = np.clip(eye_N, 0.08, 1.1) * (1 - closed_N)

        lively_N = self._restless * (0.45 + 0.55 * (arousal_N + 1) / 2)
        move_N5 = 0.6 * self._restless * drift_N5 + 0.5 * lively_N[:, None] * fidget_N5
        yaw_N, roll_N = 0.3 * move_N5[:, 0], 0.09 * move_N5[:, 2]
        pitch_N = 0.2 * move_N5[:, 1] + gain * (0.22 * tired_N - 0.08 * aroused_N)
        columns = (
            np.clip(smile_N, -1.3, 1.3),
            np.clip(open_N, 0, 1.1),
            np.clip(stretch_N, -0.5, 0.9),
            np.clip(raise_N, -1.2, 1.4),
            np.clip(tilt_N, -1.2, 1.2),
            eye_N,
            np.clip(cheek_N, 0, 1),
            0.5 * drift_N5[:, 3] + 0.2 * fidget_N5[:, 3],
            0.3 * drift_N5[:, 4],
            np.clip(yaw_N, -0.8, 0.8),
            np.clip(pitch_N, -0.6, 0.6),
            np.clip(roll_N, -0.35, 0.35),
            0.1 * move_N5[:, 3],
            0.07 * move_N5[:, 4],
        )
        rows = np.stack(columns, axis=1).tolist()
        return [
            Expression(
                smile=row[0],
                mouth_open=row[1],
                mouth_stretch=row[2],
                brow_raise=row[3],
                brow_tilt=row[4],
                eye_open=row[5],
                cheek=row[6],
                gaze=(row[7], row[8]),
                yaw=row[9],
                pitch=row[10],
                roll=row[11],
                shift=(row[12], row[13]),
            )
            for row in rows
        ]
