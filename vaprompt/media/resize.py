"""Pictures as an image encoder expects them: shortest side resized, centre cut out, normalised.

The same as open_clip's PIL transform, give or take a step of 255 here and there (tested), but on a whole batch of
bytes at once and several times as fast: resizing starves an accelerator before decoding does.

Axes: B pictures, H height, W width, C colour channels, S the encoder's side.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F


def preprocess(
    image_BHWC: UInt8[Tensor, "B H W 3"],
    *,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Float32[Tensor, "B 3 {size} {size}"]:
    """Return pictures of one size as an encoder's normalised input (B, 3, size, size), on their own device.

    On the processor its memory is in the order (B, size, size, 3), which torch calls channels last.

    Args:
        image_BHWC: red, green, blue bytes.
        size: the shorter side becomes this many pixels (antialiased bicubic), then the centre square is taken.
        mean: subtracted from each channel in [0, 1]. It belongs to the encoder: CLIP's is not ImageNet's.
        std: each channel is divided by it.
    """
    square_BSSC = fitted(image_BHWC, size=size)
    mean_C, std_C = (255 * torch.tensor(values, device=square_BSSC.device) for values in (mean, std))
    if square_BSSC.device.type == "cpu":
        return _normalised(square_BSSC, mean_C, std_C).permute(0, 3, 1, 2)
    # Channels are brought apart while they are still bytes, which moves a quarter of the memory.
    image_BCSS = square_BSSC.permute(0, 3, 1, 2).contiguous().float()
    return image_BCSS.sub_(mean_C.view(3, 1, 1)).div_(std_C.view(3, 1, 1))


def _normalised(
    square_BSSC: UInt8[Tensor, "B S S 3"], mean_C: Float32[Tensor, "3"], std_C: Float32[Tensor, "3"]
) -> Float32[Tensor, "B S S 3"]:
    """Channels stay side by side, as bringing them apart takes as long as resizing; lines are worked on as a whole.

    One picture at a time, which stays in the processor's own cache from the first step to the last.
    """
    items, side = square_BSSC.shape[:2]
    mean_L, std_L = mean_C.repeat(side), std_C.repeat(side)
    value_BSL = torch.empty(items, side, 3 * side)
    for value_SL, byte_SL in zip(value_BSL, square_BSSC.reshape(items, side, 3 * side), strict=True):
        value_SL.copy_(byte_SL).sub_(mean_L).div_(std_L)
    return value_BSL.view(items, side, side, 3)


def fitted(
    image_BHWC: UInt8[Tensor, "B H W 3"], *, size: int, resize: str = "shortest", interpolation: str = "bicubic"
) -> UInt8[Tensor, "B {size} {size} 3"]:
    """Return pictures of one size as squares of `size` pixels, still bytes; those that are such squares already as is.

    Args:
        image_BHWC: red, green, blue bytes.
        size: side of the squares.
        resize: `shortest` resizes the shorter side and takes the centre square, `squash` distorts.
        interpolation: `bicubic` or `bilinear`, antialiased; what follows a comma is a remark.
    """
    height, width = image_BHWC.shape[1:3]
    if height == width == size:
        return image_BHWC
    shortest = min(height, width)
    high, wide = (size, size) if resize == "squash" else (size * height // shortest, size * width // shortest)
    image_BCHW = image_BHWC.permute(0, 3, 1, 2)
    if (high, wide) != (height, width):
        image_BCHW = _resize(image_BCHW, high, wide, interpolation.split(",")[0])
    # Rounding half to even, as torchvision's CenterCrop does.
    top, left = round((image_BCHW.shape[2] - size) / 2), round((image_BCHW.shape[3] - size) / 2)
    return image_BCHW[:, :, top : top + size, left : left + size].permute(0, 2, 3, 1)


def _resize(
    image_BCHW: UInt8[Tensor, "B 3 H W"], height: int, width: int, mode: str = "bicubic"
) -> UInt8[Tensor, "B 3 h w"]:
    # On the processor torch resizes bytes directly, with Pillow's own fixed-point arithmetic.
    if image_BCHW.device.type == "cpu":
        return F.interpolate(image_BCHW, (height, width), mode=mode, antialias=True)
    return _resize_by_products(image_BCHW, height, width, mode)


def _resize_by_products(
    image_BCHW: UInt8[Tensor, "B 3 H W"], height: int, width: int, mode: str = "bicubic"
) -> UInt8[Tensor, "B 3 h w"]:
    """Accelerators resize floats only, and slowly: products with the filter's weights, rounded as Pillow rounds.

    Rows first and then columns, with bytes in between.
    """
    across_wW = _weights(image_BCHW.shape[3], width, mode, image_BCHW.device)
    down_hH = _weights(image_BCHW.shape[2], height, mode, image_BCHW.device)
    # Full precision, whatever is allowed elsewhere: the bytes are to be those of any other device.
    wide_BCHw = (image_BCHW.float() @ across_wW.t()).add_(0.5).floor_().clamp_(0, 255)
    return (down_hH @ wide_BCHw).add_(0.5).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _weights(before: int, after: int, mode: str, device: torch.device) -> Float32[Tensor, "{after} {before}"]:
    """Return the share of every pixel of a line in every pixel of the resized one.

    A triangle, or Keys' cubic with a = -1/2, as wide as a pixel of the coarser of the two lines.
    """
    pixel = max(1.0, before / after)
    centre_A1 = (torch.arange(after, dtype=torch.float64)[:, None] + 0.5) * before / after
    distance_AB = (torch.arange(before, dtype=torch.float64) + 0.5 - centre_A1).abs() / pixel
    if mode == "bilinear":
        share_AB = (1 - distance_AB).clamp_min(0)
    else:
        near_AB = (1.5 * distance_AB - 2.5) * distance_AB**2 + 1
        far_AB = ((-0.5 * distance_AB + 2.5) * distance_AB - 4) * distance_AB + 2
        share_AB = torch.where(distance_AB < 1, near_AB, torch.where(distance_AB < 2, far_AB, 0.0))
    return (share_AB / share_AB.sum(dim=1, keepdim=True)).to(device, torch.float32)
