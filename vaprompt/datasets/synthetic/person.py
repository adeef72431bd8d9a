"""Who is seen and heard, and under which conditions: drawn once for each person.

The ranges of light, noise, blur and the kinds of occluder differ between the people of the training and of the
validation and test splits, so that a score on the latter says something about people and places never met before.

Lengths in a face are in units of half its nominal width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Surroundings = Literal["familiar", "foreign", "any"]
"""`familiar`: the training people's; `foreign`: the validation and test people's; `any`: both, for the encoders."""
OccluderKind = Literal["hand", "hair", "bar", "cup", "phone", "scarf"]
Colour = tuple[int, int, int]

FAMILIAR_OCCLUDERS: tuple[OccluderKind, ...] = ("hand", "hair", "bar")
FOREIGN_OCCLUDERS: tuple[OccluderKind, ...] = ("cup", "phone", "scarf")


@dataclass(frozen=True)
class FaceIdentity:
    """What stays the same in a person's face."""

    skin: Colour
    hair: Colour
    lips: Colour
    iris: Colour
    width: float
    height: float
    jaw: float
    """1 is an ellipse; larger is squarer below the cheeks."""
    eye_gap: float
    eye_size: float
    eye_height: float
    brow_thickness: float
    nose: float
    mouth_width: float
    mouth_height: float
    lip_thickness: float
    fringe: float
    """How far hair comes down the forehead."""
    long_hair: bool
    glasses: bool
    moustache: bool
    rest_smile: float
    """Curvature of the mouth at rest: somebody's neutral looks like another's displeasure."""
    rest_brow: float
    rest_tilt: float
    rest_eye: float
    gain: float
    """How strongly the face follows what is felt, 0.6 to 1.2."""


@dataclass(frozen=True)
class VoiceIdentity:
    """What stays the same in a person's voice."""

    pitch: float
    """Hertz at zero arousal."""
    tract: float
    """Factor on the formants' frequencies; small for long vocal tracts."""
    tilt: float
    """Decibels an octave at zero arousal."""
    rate: float
    """Syllables a second at zero arousal."""
    loudness: float
    """Decibels."""
    breath: float
    """Level of breath noise against the voice, 0 to 1."""
    gain: float


@dataclass(frozen=True)
class Conditions:
    """What lies between the person and the recording."""

    brightness: float
    warmth: float
    side_light: float
    """-1 to 1: from which side, and how strongly, the light falls."""
    grain: float
    """Standard deviation of the picture's noise, in levels of 255."""
    blur: float
    """Radius in pixels."""
    restless: float
    """Size of the head's movement."""
    occluded: float
    """Part of the time in which something hides part of the face."""
    occluders: tuple[OccluderKind, ...]
    hiss: float
    """Background noise, in decibels against the voice at zero arousal."""
    hum: float
    """Level of mains hum, the same way."""


def draw_face(random: np.random.Generator) -> FaceIdentity:
    """Draw a face."""
    pale, dark = np.array([250, 222, 200.0]), np.array([96, 62, 44.0])
    skin_3 = dark + (pale - dark) * random.uniform(0, 1) ** 0.8 + random.normal(0, 5, 3)
    lips_3 = skin_3 * [0.82, 0.55, 0.55] + random.normal(0, 8, 3)
    hairs = ((24, 20, 18), (60, 38, 24), (112, 76, 44), (196, 160, 96), (150, 70, 36), (150, 150, 152), (52, 52, 60))
    irises = ((70, 44, 26), (40, 76, 120), (60, 96, 60), (90, 100, 110), (36, 26, 20))
    return FaceIdentity(
        skin=_colour(skin_3),
        hair=_colour(np.array(hairs[random.integers(len(hairs))]) + random.normal(0, 8, 3)),
        lips=_colour(lips_3),
        iris=irises[random.integers(len(irises))],
        width=random.uniform(0.84, 1.02),
        height=random.uniform(1.12, 1.3),
        jaw=random.uniform(1.0, 1.5),
        eye_gap=random.uniform(0.36, 0.45),
        eye_size=random.uniform(0.19, 0.25),
        eye_height=random.uniform(-0.28, -0.14),
        brow_thickness=random.uniform(0.035, 0.085),
        nose=random.uniform(0.24, 0.4),
        mouth_width=random.uniform(0.34, 0.46),
        mouth_height=random.uniform(0.58, 0.7),
        lip_thickness=random.uniform(0.05, 0.1),
        fringe=random.uniform(0.15, 0.5),
        long_hair=bool(random.random() < 0.45),
        glasses=bool(random.random() < 0.2),
        moustache=bool(random.random() < 0.15),
        rest_smile=random.normal(0, 0.14),
        rest_brow=random.normal(0, 0.16),
        rest_tilt=random.normal(0, 0.12),
        rest_eye=random.normal(0, 0.1),
        gain=random.uniform(0.6, 1.2),
    )


def draw_voice(random: np.random.Generator) -> VoiceIdentity:
    """Draw a voice."""
    pitch = float(np.exp(random.uniform(np.log(90), np.log(240))))
    return VoiceIdentity(
        pitch=pitch,
        tract=float((pitch / 150) ** 0.2 * random.uniform(0.95, 1.06)),
        tilt=random.uniform(-11, -7),
        rate=random.uniform(3.4, 4.4),
        loudness=random.normal(0, 2.0),
        breath=random.uniform(0.02, 0.25),
        gain=random.uniform(0.7, 1.2),
    )


def draw_conditions(random: np.random.Generator, surroundings: Surroundings) -> Conditions:
    """Draw the conditions of a recording in the given surroundings."""
    if surroundings == "any":
        light, grain, blur, hiss = (0.42, 1.15), (3.0, 20.0), (0.0, 1.6), (-34.0, -12.0)
        occluders = FAMILIAR_OCCLUDERS + FOREIGN_OCCLUDERS
    elif surroundings == "familiar":
        light, grain, blur, hiss = (0.7, 1.15), (3.0, 12.0), (0.0, 1.1), (-34.0, -18.0)
        occluders = FAMILIAR_OCCLUDERS
    else:
        light, grain, blur, hiss = (0.45, 0.85), (8.0, 18.0), (0.3, 1.5), (-28.0, -14.0)
        occluders = FOREIGN_OCCLUDERS
    return Conditions(
        brightness=random.uniform(*light),
        warmth=random.normal(0, 0.06),
        side_light=random.uniform(-0.5, 0.5),
        grain=random.uniform(*grain),
        blur=random.uniform(*blur),
        restless=random.uniform(0.5, 1.2),
        occluded=random.uniform(0.08, 0.25),
        occluders=occluders,
        hiss=random.uniform(*hiss),
        hum=random.uniform(-50, -20),
    )


def _colour(value_3: np.ndarray) -> Colour:
    red, green, blue = (int(level) for level in np.clip(value_3, 8, 252))
    return red, green, blue
