"""Cutting a face out of a picture as Aff-Wild2's aligned crops are cut: upright, eyes and mouth in fixed places.

A crop is a square that may be turned: centre, side and angle. They follow from the five landmarks as the similarity
transform that brings them, by least squares, onto a template of 112x112 pixels, the one that the field's face
recognition aligns to. A head seen from the side so gets the same margin as in those crops.

Axes: K faces, P landmarks, S rows and columns of the crop, H rows, W columns; 4 is centre x, centre y, the side's
logarithm, angle. Lengths are in widths of the picture, so that they hold at any size of it.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

TEMPLATE_SIDE = 112.0
# Pixels in a crop of 112x112: eyes, nose, corners of the mouth (ArcFace, Deng et al. 2019, released alignment).
TEMPLATE_P = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)
SMALLEST = 1e-4
"""No face is smaller than this share of the picture's width; keeps the logarithm finite."""


def placements(landmark_KP2: Float64[np.ndarray, "K P 2"]) -> Float64[np.ndarray, "K 4"]:
    """Return where each face's crop lies, for landmarks in widths of the picture.

    As points of the complex plane the similarity is z = a t + b, and least squares gives a in one line.
    """
    point_KP = landmark_KP2[..., 0] + 1j * landmark_KP2[..., 1]
    template_P = TEMPLATE_P - TEMPLATE_P.mean()
    middle_K = point_KP.mean(axis=1)
    turn_K = ((point_KP - middle_K[:, None]) @ template_P.conj()) / np.sum(np.abs(template_P) ** 2)
    centre_K = middle_K + turn_K * (TEMPLATE_SIDE / 2 * (1 + 1j) - TEMPLATE_P.mean())
    side_K = np.maximum(np.abs(turn_K) * TEMPLATE_SIDE, SMALLEST)
    return np.stack((centre_K.real, centre_K.imag, np.log(side_K), np.angle(turn_K)), axis=1)


def cut(
    rgb_HWC: UInt8[np.ndarray, "H W 3"], placement_4: Float64[np.ndarray, "4"], size: int, scale: float = 1.0
) -> UInt8[np.ndarray, "S S 3"]:
    """Return a face, upright, as `size` x `size` pixels; what lies outside the picture is black.

    Args:
        rgb_HWC: the picture, at full size.
        placement_4: where the crop lies, in widths of the picture.
        size: S.
        scale: factor on the crop's side.
    """
    height, width = rgb_HWC.shape[:2]
    centre_x, centre_y = placement_4[0] * width, placement_4[1] * width
    side = math.exp(placement_4[2]) * width * scale
    # Large faces are first scaled down by whole numbers, with averaging: sampling alone would alias.
    factor = max(1, int(side // size))
    reach = side * 0.75 + factor  # half the diagonal of a turned square, and a rim for rounding
    left, top = (max(0, math.floor(centre - reach)) for centre in (centre_x, centre_y))
    right, bottom = min(width, math.ceil(centre_x + reach)), min(height, math.ceil(centre_y + reach))
    if right <= left or bottom <= top:
        return np.zeros((size, size, 3), dtype=np.uint8)
    around = Image.fromarray(np.ascontiguousarray(rgb_HWC[top:bottom, left:right])).reduce(factor)
    step = side / size / factor
    cosine, sine = step * math.cos(placement_4[3]), step * math.sin(placement_4[3])
    middle_x, middle_y = (centre_x - left) / factor, (centre_y - top) / factor
    half = size / 2
    from_crop = (
        cosine, -sine, middle_x - half * (cosine - sine),
        sine, cosine, middle_y - half * (sine + cosine),
    )  # fmt: skip
    crop = around.transform((size, size), Image.Transform.AFFINE, from_crop, resample=Image.Resampling.BICUBIC)
    return np.array(crop, dtype=np.uint8)  # a copy: what Pillow holds can only be read, and torch warns of that
