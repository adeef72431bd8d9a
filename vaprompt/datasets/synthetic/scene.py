"""One person in one recording: asked for a picture at any instant, and for the sound.

This is the generator's heart, without any files: the data set's writer and the training of the miniature encoders
both draw from it. People are named by a namespace, a seed and a number; other names are other people.

Axes: H, W picture (160 x 192 pixels); N instants; L sound samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw, ImageFilter

from vaprompt.datasets.synthetic.expression import Behaviour, Expression
from vaprompt.datasets.synthetic.face import HEIGHT, OVERSAMPLING, UNIT, WIDTH, FacePainter
from vaprompt.datasets.synthetic.occluders import Stretch, draw_stretches, paint_occluder
from vaprompt.datasets.synthetic.person import Surroundings, draw_conditions, draw_face, draw_voice
from vaprompt.datasets.synthetic.speech import Speech
from vaprompt.datasets.synthetic.trajectory import AffectPath, random_source
from vaprompt.datasets.synthetic.voice import RATE, room, sing

CROP = 112
"""Side of a face crop, in pixels."""
CROP_REACH = 1.3
"""Half the side of the box that is cropped, in units of the face."""


@dataclass(frozen=True)
class Shot:
    """One picture, and where the face is in it."""

    rgb_HWC: UInt8[np.ndarray, "H W 3"]
    x: float
    y: float

    def crop(self) -> Image.Image:
        """Return the face as a data set's face detector would: a square of 112 pixels, not turned upright."""
        reach = UNIT * CROP_REACH
        height, width, _ = self.rgb_HWC.shape
        left = min(max(self.x - reach, 0), width - 2 * reach)
        top = min(max(self.y - reach, 0), height - 2 * reach)
        box = (left, top, left + 2 * reach, top + 2 * reach)
        return Image.fromarray(self.rgb_HWC).resize((CROP, CROP), Image.Resampling.BICUBIC, box=box)


class Scene:
    """A person, what it feels, says and does, where, for some seconds."""

    def __init__(
        self,
        namespace: str,
        *,
        seed: int,
        number: int,
        seconds: float,
        surroundings: Surroundings,
        longest: float = 30.0,
    ) -> None:
        """Draw everything about person `number` of the namespace.

        Args:
            namespace: keeps people apart: "dataset" for data sets, "encoders" for the encoders' training.
            seed: the namespace's seed.
            number: which person.
            seconds: for how long it is seen and heard.
            surroundings: from which ranges light, noise and occluders are drawn.
            longest: seconds that the slowest waves of valence and arousal take; by default few enough for half a
                minute of one person to lead all over the plane.
        """

        def source(purpose: str) -> np.random.Generator:
            return random_source(seed, namespace, number, purpose)

        self.seconds = seconds
        self.face, self.voice = draw_face(source("face")), draw_voice(source("voice"))
        self.conditions = draw_conditions(source("conditions"), surroundings)
        self.affect = AffectPath(source("affect"), longest=longest)
        self.speech = Speech(source("speech"), voice=self.voice, affect=self.affect, seconds=seconds)
        self._behaviour = Behaviour(
            source("behaviour"),
            face=self.face,
            conditions=self.conditions,
            affect=self.affect,
            speech=self.speech,
            seconds=seconds,
        )
        self.occlusions = draw_stretches(
            source("occluders"),
            conditions=self.conditions,
            skin=self.face.skin,
            hair=self.face.hair,
            seconds=seconds,
        )
        self._painter = FacePainter(self.face)
        self._background = _background(source("background"))
        self._light_HWC = _light(self.conditions.brightness, self.conditions.warmth, self.conditions.side_light)
        self._source = source
        # One sheet of noise a scene, another cut of it for every picture: drawing fresh noise costs more than the face.
        sheet_HWC = source("grain").standard_normal((2 * HEIGHT, 2 * WIDTH, 3), dtype=np.float32)
        self._grain_HWC = (self.conditions.grain * sheet_HWC).astype(np.int16)

    def expressions(self, time_N: Float64[np.ndarray, "N"]) -> list[Expression]:
        """Return what the face does at the given seconds."""
        return self._behaviour(time_N)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        return HEIGHT, WIDTH

    def shots(self, time_N: Float64[np.ndarray, "N"]) -> Iterator[Shot]:
        """Yield the pictures at the given seconds."""
        cut = self._source("cut")
        for time, expression in zip(time_N.tolist(), self.expressions(time_N), strict=True):
            yield self._shot(time, expression, cut)

    def sound(self) -> Float32[np.ndarray, "L"]:
        """Return voice and room, 16 kHz mono, `seconds` long, within [-1, 1]."""
        samples = round(self.seconds * RATE)
        voice_L = sing(self._source("glottis"), self.speech, self.voice, samples=samples)
        wave_L: Float32[np.ndarray, "L"] = voice_L + room(self._source("room"), self.conditions, samples=samples)
        np.clip(wave_L, -1, 1, out=wave_L)
        return wave_L

    def _shot(self, time: float, expression: Expression, cut: np.random.Generator) -> Shot:
        canvas = self._background.copy()
        pose = self._painter.paint(canvas, expression)
        hiding = self._hiding(time)
        if hiding is not None:
            paint_occluder(canvas, pose, hiding, time)
        picture = canvas.reduce(OVERSAMPLING)
        if self.conditions.blur > 0.3:
            picture = picture.filter(ImageFilter.BoxBlur(self.conditions.blur))
        row, column = int(cut.integers(HEIGHT)), int(cut.integers(WIDTH))
        grain_HWC = self._grain_HWC[row : row + HEIGHT, column : column + WIDTH]
        lit_HWC = (np.asarray(picture) * self._light_HWC).astype(np.int16)
        return Shot(rgb_HWC=np.clip(lit_HWC + grain_HWC, 0, 255).astype(np.uint8), x=pose.x, y=pose.y)

    def _hiding(self, time: float) -> Stretch | None:
        return next((stretch for stretch in self.occlusions if stretch.start <= time < stretch.end), None)


def _background(random: np.random.Generator) -> Image.Image:
    """Draw a wall with a few things on it, and the person's shoulders."""
    width, height = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING

    def colour() -> tuple[int, int, int]:
        red, green, blue = (int(level) for level in random.integers(40, 220, 3))
        return red, green, blue

    canvas = Image.new("RGB", (width, height), colour())
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(random.integers(2, 6))):
        left, top = random.uniform(-60, width), random.uniform(-60, height)
        size = random.uniform(40, 200, 2)
        pen.rectangle((left, top, left + size[0], top + size[1]), fill=colour())
    shoulders = [(width * 0.08, height), (width * 0.24, height * 0.88), (width * 0.76, height * 0.88)]
    pen.polygon([*shoulders, (width * 0.92, height)], fill=colour())
    return canvas


def _light(brightness: float, warmth: float, side: float) -> Float32[np.ndarray, "H W 3"]:
    """Return the factor that light puts on each pixel and colour."""
    across_W = 1 + side * np.linspace(-0.6, 0.6, WIDTH, dtype=np.float32)
    warm_C = np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32)
    sheet_WC = brightness * across_W[:, None] * warm_C
    return np.broadcast_to(sheet_WC, (HEIGHT, WIDTH, 3)).astype(np.float32)
