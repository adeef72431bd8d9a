"""Draws one face in one expression, as polygons at twice the final resolution.

A face is described in its own units (half its nominal width; x to the right, y down, the origin between nose and
eyes) and put onto the canvas by turning, scaling and shifting. Turning the head left or right, up or down moves the
features within the outline.

Axes: M corners of a polygon; H, W canvas; the last axis of points is (x, y).
"""

from __future__ import annotations

from collections.abc import Callable
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

Points = Float64[np.ndarray, "M 2"]
Fill = Callable[[Points, Colour], None]
Warp = Callable[[Points], Points]


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
        pen = ImageDraw.Draw(canvas)

        def fill(point_M2: Points, colour: Colour) -> None:
            pen.polygon(pose.place(point_M2), fill=colour)

        turn, nod = 0.32 * expression.yaw, 0.22 * expression.pitch
        narrow = 1 - 0.12 * abs(expression.yaw)

        def inner(point_M2: Points) -> Points:
            """Move features within the outline as the head turns."""
            return point_M2 * [narrow, 1 - 0.06 * abs(expression.pitch)] + [turn, nod]

        hair_low = 1.25 if face.long_hair else 0.1
        fill(_oval(0.0, -0.2, face.width + 0.14, face.height + 0.1), face.hair)
        if face.long_hair:
            side = face.width + 0.12
            fill(np.array([[-side, -0.3], [side, -0.3], [side - 0.08, hair_low], [-side + 0.08, hair_low]]), face.hair)
        fill(np.array([[-0.38, 0.6], [0.38, 0.6], [0.46, 1.8], [-0.46, 1.8]]), self._shade)
        for side in (-1, 1):
            fill(_oval(side * (face.width + 0.02) - 0.3 * turn, -0.02, 0.12, 0.2), self._shade)
        fill(self._outline_M2, face.skin)
        # A little larger than the skull, so that no skin shines through between fringe and hair.
        crown_M2 = 1.04 * self._outline_M2[self._outline_M2[:, 1] < -face.height * (0.62 - 0.5 * face.fringe)]
        fill(np.add(crown_M2, [0, 0.05 * expression.pitch]), face.hair)

        self._cheeks(fill, inner, expression)
        for side in (-1, 1):
            self._eye(fill, inner, expression, side)
        self._nose(pen, pose, inner)
        self._mouth(fill, pen, pose, inner, expression)
        if face.glasses:
            for side in (-1, 1):
                rim_M2 = inner(_oval(side * face.eye_gap, face.eye_height + 0.02, 0.29, 0.24))
                pen.line([*pose.place(rim_M2), *pose.place(rim_M2[:1])], fill=(38, 34, 36), width=4)
            bridge_M2 = inner(np.array([[-0.13, face.eye_height], [0.13, face.eye_height]]))
            pen.line(pose.place(bridge_M2), fill=(38, 34, 36), width=4)
        return pose

    def _cheeks(self, fill: Fill, inner: Warp, expression: Expression) -> None:
        lift = 0.1 * expression.cheek
        for side in (-1, 1):
            fill(inner(_oval(side * 0.52, 0.3 - lift, 0.2 + 0.05 * expression.cheek, 0.13)), self._blush)

    def _eye(self, fill: Fill, inner: Warp, expression: Expression, side: int) -> None:
        face = self._face
        x, y, size = side * face.eye_gap, face.eye_height, face.eye_size
        tall = 0.85 * size
        fill(inner(_oval(x, y, size * 1.15, tall * 1.1)), self._lid)
        fill(inner(_oval(x, y, size, tall)), (238, 236, 232))
        gaze_x, gaze_y = x + 0.3 * size * expression.gaze[0], y + 0.02 + 0.2 * size * expression.gaze[1]
        fill(inner(_oval(gaze_x, gaze_y, 0.5 * size, 0.5 * size)), face.iris)
        fill(inner(_oval(gaze_x, gaze_y, 0.25 * size, 0.25 * size)), (12, 10, 10))
        # Lids cover the eyeball from above and below; what is left open tells of arousal, a pushed lower lid of joy.
        upper = y + tall * (0.75 - 1.6 * expression.eye_open)
        lower = y + tall * (0.8 - 0.75 * expression.cheek)
        lower = max(lower, upper + 0.02)
        arch_M = 1 - _ALONG_M**2
        edge_M2 = np.stack((x + 1.2 * size * _ALONG_M, upper + 0.25 * tall * (1 - arch_M)), axis=1)
        roof_M2 = np.stack((x + 1.2 * size * _ALONG_M, np.full_like(_ALONG_M, y - 1.25 * tall)), axis=1)
        fill(inner(np.concatenate((edge_M2, roof_M2[::-1]))), face.skin)
        lash_M2 = np.concatenate((edge_M2, edge_M2[::-1] - [0, 0.035]))
        fill(inner(lash_M2), self._line)
        rim_M2 = np.stack((x + 1.2 * size * _ALONG_M, lower - 0.2 * tall * (1 - arch_M)), axis=1)
        floor_M2 = np.stack((x + 1.2 * size * _ALONG_M, np.full_like(_ALONG_M, y + 1.3 * tall)), axis=1)
        fill(inner(np.concatenate((rim_M2, floor_M2[::-1]))), face.skin)

        # `across` runs from the inner end of the brow to the outer one.
        across_M = np.linspace(0, 1, 9)
        height_M = -0.2 - 0.13 * expression.brow_raise - 0.08 * np.sin(np.pi * across_M)
        height_M = height_M + 0.2 * expression.brow_tilt * (0.55 - across_M)
        brow_x_M = side * (face.eye_gap - 0.26 + 0.54 * across_M - 0.04 * max(expression.brow_tilt, 0))
        thick_M = face.brow_thickness * (1.2 - 0.5 * across_M)
        top_M2 = np.stack((brow_x_M, y - 0.03 + height_M - thick_M), axis=1)
        low_M2 = np.stack((brow_x_M, y - 0.03 + height_M + thick_M), axis=1)
        fill(inner(np.concatenate((top_M2, low_M2[::-1]))), self._brow)

    def _nose(self, pen: ImageDraw.ImageDraw, pose: Pose, inner: Warp) -> None:
        low = self._face.eye_height + 0.2 + self._face.nose
        nose_M2 = np.array([[0.03, low - 0.32], [0.1, low - 0.04], [0.06, low], [-0.09, low]])
        pen.line(pose.place(inner(nose_M2)), fill=self._line, width=4, joint="curve")

    def _mouth(self, fill: Fill, pen: ImageDraw.ImageDraw, pose: Pose, inner: Warp, expression: Expression) -> None:
        face = self._face
        wide = face.mouth_width * (1 + 0.35 * expression.mouth_stretch + 0.1 * expression.smile)
        x_M = wide * _ALONG_M
        bend_M = -0.26 * expression.smile * (_ALONG_M**2 - 0.4)
        gap_M = 0.2 * expression.mouth_open * np.sqrt(np.maximum(1 - _ALONG_M**2, 0))
        middle_M = face.mouth_height + bend_M
        arch_M = 1 - np.abs(_ALONG_M) ** 2.5
        lip = face.lip_thickness

        def band(upper_M: Float64[np.ndarray, "half"], lower_M: Float64[np.ndarray, "half"]) -> Points:
            return inner(np.stack((np.r_[x_M, x_M[::-1]], np.r_[upper_M, lower_M[::-1]]), axis=1))

        upper_M, lower_M = middle_M - 0.4 * gap_M, middle_M + 1.2 * gap_M
        if face.moustache:
            fill(band(upper_M - lip * arch_M - 0.16 * arch_M, upper_M - lip * arch_M), face.hair)
        fill(band(upper_M - lip * (0.25 + 0.75 * arch_M), lower_M + lip * (0.25 + 1.1 * arch_M)), face.lips)
        if expression.mouth_open > 0.12:
            fill(band(upper_M, lower_M), (46, 14, 18))
            fill(band(upper_M, np.minimum(upper_M + 0.09, lower_M)), (236, 232, 224))
        else:
            line_M2 = inner(np.stack((x_M, middle_M), axis=1))
            pen.line(pose.place(line_M2), fill=_mixed(face.lips, (20, 4, 8), 0.6), width=4, joint="curve")


def _oval(x: float, y: float, wide: float, tall: float) -> Points:
    return _CIRCLE_M2 * [wide, tall] + [x, y]


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Return `one` with `share` of `other` in it."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue
