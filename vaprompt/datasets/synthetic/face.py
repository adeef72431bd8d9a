"""Draws one face in one expression, as polygons at twice the final resolution.

A face is described in its own units (half its nominal width; x to the right, y down, the origin between nose and
eyes) and put onto the canvas by turning, scaling and shifting. Turning the head left or right, up or down moves the
features within the outline.

Axes: M corners of a polygon; H, W canvas; the last axis of points is (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

from vaprompt.datasets.synthetic.expression import Expression
from vaprompt.datasets.synthetic.person import Colour, FaceIdentity

OVERSAMPLING = 2
WIDTH, HEIGHT = 192, 160
"""Size of the picture of one person, in pixels."""
UNIT = 52.0
"""Pixels of the picture in a unit of the face."""

_ANGLE_M = np.linspace(0, 2 * np.pi, 36, endpoint=False)
_CIRCLE_M2 = np.stack((np.cos(_ANGLE_M), np.sin(_ANGLE_M)), axis=1)
_ALONG_M = np.linspace(-1, 1, 15)

_RIM: Colour = (38, 34, 36)

Points = Float64[np.ndarray, "M 2"]
Curve = Float64[np.ndarray, "M"]


@dataclass(frozen=True)
class Pose:
    """Where the face is in the picture."""

    x: float
    y: float
    """Centre, in pixels of the picture."""
    roll: float

    def place(self, point_M2: Points) -> list[float]:
        """Return the canvas coordinates of points in the face's units, flat as Pillow wants them."""
        scale, cos, sin = UNIT * OVERSAMPLING, np.cos(self.roll), np.sin(self.roll)
        turn_22 = scale * np.array([[cos, sin], [-sin, cos]])
        flat: list[float] = (point_M2 @ turn_22 + [self.x * OVERSAMPLING, self.y * OVERSAMPLING]).ravel().tolist()
        return flat


class Brush:
    """Draws in the units of a face onto a canvas."""

    def __init__(
        self,
        canvas: Image.Image,
        pose: Pose,
        *,
        stretch: tuple[float, float] = (1.0, 1.0),
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Draw onto `canvas`, where the face is; all points are stretched and then moved within the face."""
        self._pen, self._pose, self._stretch, self._offset = ImageDraw.Draw(canvas), pose, stretch, offset

    def fill(self, point_M2: Points, colour: Colour) -> None:
        """Fill a polygon."""
        self._pen.polygon(self._place(point_M2), fill=colour)

    def line(self, point_M2: Points, colour: Colour) -> None:
        """Draw a line through points."""
        self._pen.line(self._place(point_M2), fill=colour, width=4, joint="curve")

    def _place(self, point_M2: Points) -> list[float]:
        return self._pose.place(point_M2 * self._stretch + self._offset)


class FacePainter:
    """Paints one person's face onto canvases."""

    def __init__(self, face: FaceIdentity) -> None:
        """Prepare what does not change with the expression."""
        self._face = face
        self._shade = _mixed(face.skin, (40, 16, 20), 0.16)
        self._lid = _mixed(face.skin, (60, 24, 30), 0.1)
        self._blush = _mixed(face.skin, (214, 84, 80), 0.22)
        self._line = _mixed(face.skin, (30, 10, 10), 0.5)
        self._brow = _mixed(face.hair, (10, 8, 8), 0.35)
        squareness = 2 / (1 + face.jaw)
        x_M, y_M = _CIRCLE_M2.T
        below_M = y_M > 0
        x_M = np.where(below_M, np.sign(x_M) * np.abs(x_M) ** squareness, x_M)
        self._outline_M2 = np.stack((x_M * face.width, y_M * face.height), axis=1)

    def paint(self, canvas: Image.Image, expression: Expression) -> Pose:
        """Draw head and features; return where the face is."""
        face = self._face
        pose = Pose(
            x=WIDTH / 2 + UNIT * expression.shift[0],
            y=HEIGHT / 2 + 4 + UNIT * (expression.shift[1] + 0.15 * expression.pitch),
            roll=expression.roll,
        )
        head = Brush(canvas, pose)
        turn, nod = 0.32 * expression.yaw, 0.22 * expression.pitch
        # Features move within the outline as the head turns.
        features = Brush(
            canvas,
            pose,
            stretch=(1 - 0.12 * abs(expression.yaw), 1 - 0.06 * abs(expression.pitch)),
            offset=(turn, nod),
        )
        hair_low = 1.25 if face.long_hair else 0.1
        head.fill(_oval(0.0, -0.2, face.width + 0.14, face.height + 0.1), face.hair)
        if face.long_hair:
            side = face.width + 0.12
            head.fill(
                np.array([[-side, -0.3], [side, -0.3], [side - 0.08, hair_low], [-side + 0.08, hair_low]]), face.hair
            )
        head.fill(np.array([[-0.38, 0.6], [0.38, 0.6], [0.46, 1.8], [-0.46, 1.8]]), self._shade)
        for side in (-1, 1):
            head.fill(_oval(side * (face.width + 0.02) - 0.3 * turn, -0.02, 0.12, 0.2), self._shade)
        head.fill(self._outline_M2, face.skin)
        # A little larger than the skull, so that no skin shines through between fringe and hair.
        crown_M2 = 1.04 * self._outline_M2[self._outline_M2[:, 1] < -face.height * (0.62 - 0.5 * face.fringe)]
        head.fill(np.add(crown_M2, [0, 0.05 * expression.pitch]), face.hair)

        self._cheeks(features, expression)
        for side in (-1, 1):
            self._eye(features, expression, side)
        self._nose(features)
        self._mouth(features, expression)
        if face.glasses:
            for side in (-1, 1):
                rim_M2 = _oval(side * face.eye_gap, face.eye_height + 0.02, 0.29, 0.24)
                features.line(np.concatenate((rim_M2, rim_M2[:1])), _RIM)
            features.line(np.array([[-0.13, face.eye_height], [0.13, face.eye_height]]), _RIM)
        return pose

    def _cheeks(self, features: Brush, expression: Expression) -> None:
        lift = 0.1 * expression.cheek
        for side in (-1, 1):
            features.fill(_oval(side * 0.52, 0.3 - lift, 0.2 + 0.05 * expression.cheek, 0.13), self._blush)

    def _eye(self, features: Brush, expression: Expression, side: int) -> None:
        face = self._face
        x, y, size = side * face.eye_gap, face.eye_height, face.eye_size
        tall = 0.85 * size
        features.fill(_oval(x, y, size * 1.15, tall * 1.1), self._lid)
        features.fill(_oval(x, y, size, tall), (238, 236, 232))
        gaze_x, gaze_y = x + 0.3 * size * expression.gaze[0], y + 0.02 + 0.2 * size * expression.gaze[1]
        features.fill(_oval(gaze_x, gaze_y, 0.5 * size, 0.5 * size), face.iris)
        features.fill(_oval(gaze_x, gaze_y, 0.25 * size, 0.25 * size), (12, 10, 10))
        # Lids cover the eyeball from above and below; what is left open tells of arousal, a pushed lower lid of joy.
        upper = y + tall * (0.75 - 1.6 * expression.eye_open)
        lower = y + tall * (0.8 - 0.75 * expression.cheek)
        lower = max(lower, upper + 0.02)
        arch_M = 1 - _ALONG_M**2
        edge_M2 = np.stack((x + 1.2 * size * _ALONG_M, upper + 0.25 * tall * (1 - arch_M)), axis=1)
        roof_M2 = np.stack((x + 1.2 * size * _ALONG_M, np.full_like(_ALONG_M, y - 1.25 * tall)), axis=1)
        features.fill(np.concatenate((edge_M2, roof_M2[::-1])), face.skin)
        lash_M2 = np.concatenate((edge_M2, edge_M2[::-1] - [0, 0.035]))
        features.fill(lash_M2, self._line)
        rim_M2 = np.stack((x + 1.2 * size * _ALONG_M, lower - 0.2 * tall * (1 - arch_M)), axis=1)
        floor_M2 = np.stack((x + 1.2 * size * _ALONG_M, np.full_like(_ALONG_M, y + 1.3 * tall)), axis=1)
        features.fill(np.concatenate((rim_M2, floor_M2[::-1])), face.skin)

        # `across` runs from the inner end of the brow to the outer one.
        across_M = np.linspace(0, 1, 9)
        height_M = -0.2 - 0.13 * expression.brow_raise - 0.08 * np.sin(np.pi * across_M)
        height_M = height_M + 0.2 * expression.brow_tilt * (0.55 - across_M)
        brow_x_M = side * (face.eye_gap - 0.26 + 0.54 * across_M - 0.04 * max(expression.brow_tilt, 0))
        thick_M = face.brow_thickness * (1.2 - 0.5 * across_M)
        top_M2 = np.stack((brow_x_M, y - 0.03 + height_M - thick_M), axis=1)
        low_M2 = np.stack((brow_x_M, y - 0.03 + height_M + thick_M), axis=1)
        features.fill(np.concatenate((top_M2, low_M2[::-1])), self._brow)

    def _nose(self, features: Brush) -> None:
        low = self._face.eye_height + 0.2 + self._face.nose
        nose_M2 = np.array([[0.03, low - 0.32], [0.1, low - 0.04], [0.06, low], [-0.09, low]])
        features.line(nose_M2, self._line)

    def _mouth(self, features: Brush, expression: Expression) -> None:
        face = self._face
        wide = face.mouth_width * (1 + 0.35 * expression.mouth_stretch + 0.1 * expression.smile)
        x_M = wide * _ALONG_M
        bend_M = -0.26 * expression.smile * (_ALONG_M**2 - 0.4)
        gap_M = 0.2 * expression.mouth_open * np.sqrt(np.maximum(1 - _ALONG_M**2, 0))
        middle_M = face.mouth_height + bend_M
        arch_M = 1 - np.abs(_ALONG_M) ** 2.5
        lip = face.lip_thickness

        upper_M, lower_M = middle_M - 0.4 * gap_M, middle_M + 1.2 * gap_M
        if face.moustache:
            features.fill(_band(x_M, upper_M - lip * arch_M - 0.16 * arch_M, upper_M - lip * arch_M), face.hair)
        features.fill(
            _band(x_M, upper_M - lip * (0.25 + 0.75 * arch_M), lower_M + lip * (0.25 + 1.1 * arch_M)), face.lips
        )
        if expression.mouth_open > 0.12:
            features.fill(_band(x_M, upper_M, lower_M), (46, 14, 18))
            features.fill(_band(x_M, upper_M, np.minimum(upper_M + 0.09, lower_M)), (236, 232, 224))
        else:
            features.line(np.stack((x_M, middle_M), axis=1), _mixed(face.lips, (20, 4, 8), 0.6))


def _oval(x: float, y: float, wide: float, tall: float) -> Points:
    return _CIRCLE_M2 * [wide, tall] + [x, y]


def _band(x_M: Curve, upper_M: Curve, lower_M: Curve) -> Float64[np.ndarray, "2*M 2"]:
    """Return the outline of what lies between two curves."""
    return np.stack((np.r_[x_M, x_M[::-1]], np.r_[upper_M, lower_M[::-1]]), axis=1)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Return `one` with `share` of `other` in it."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue
