"""Between the processor and the device of an encoder: a batch goes there, its embeddings come back.

An accelerator fetches and brings by itself what lies in pinned memory, while the processor does something else. What
can be done there is: overlapping windows are cut there, and embeddings are rounded there.

Axes: B items, H rows, W columns; K windows that follow each other, L samples of each, M of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float16, Float32, UInt8

from vaprompt.errors import WeightsError


def pictures_together(parts: Sequence[UInt8[np.ndarray, "_ H W 3"]], device: str) -> UInt8[np.ndarray, "B H W 3"]:
    """Return pictures as one batch, in memory that the device fetches by itself if it is a GPU."""
    if torch.device(device).type != "cuda":
        return np.concatenate(parts)
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    together: np.ndarray = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return np.concatenate(parts, out=together)


def windows_on(parts: Sequence[Float32[np.ndarray, "_ L"]], device: str) -> Float32[torch.Tensor, "B L"]:
    """Return windows of sound as one batch on a device.

    Where windows are views of one sound at equal distances, the sound goes there once, and they are cut there.
    """
    if torch.device(device).type == "cpu":
        return torch.from_numpy(np.concatenate(parts))
    spans = [_span(part) for part in parts]
    pinned = torch.device(device).type == "cuda"
    sound_M = torch.empty(sum(len(span_M) for span_M, _ in spans), dtype=torch.float32, pin_memory=pinned)
    np.concatenate([span_M for span_M, _ in spans], out=sound_M.numpy())
    # Pinned memory alone is not used again before the device has fetched what is in it.
    there_M = sound_M.to(device, non_blocking=pinned)
    windows, start = [], 0
    for part, (span_M, step) in zip(parts, spans, strict=True):
        windows.append(there_M[start : start + len(span_M)].unfold(0, part.shape[1], step))
        start += len(span_M)
    return torch.cat(windows)


def _span(window_KL: Float32[np.ndarray, "K L"]) -> tuple[Float32[np.ndarray, "M"], int]:
    """Return the sound that windows are cut from, and the samples from the start of one to the start of the next."""
    count, length = window_KL.shape
    step, rest = divmod(window_KL.strides[0], window_KL.itemsize)
    alike = count > 1 and rest == 0 and 0 < step < length and window_KL.strides[1] == window_KL.itemsize
    if not alike:
        return np.ascontiguousarray(window_KL).reshape(-1), length
    span_M = np.lib.stride_tricks.as_strided(window_KL, ((count - 1) * step + length,), window_KL.strides[1:])
    return span_M, step


def stored(embedding: Float32[torch.Tensor, "B *rest"], stream: str) -> Float16[np.ndarray, "B *rest"]:
    """Return embeddings in the store's number format; what does not fit must not become infinite in silence.

    Args:
        embedding: on the device that made it.
        stream: whose it is, for the error.

    Raises:
        WeightsError: some value does not fit.
    """
    ends = torch.stack(torch.aminmax(embedding))
    rounded = embedding.to(torch.float16)
    if embedding.device.type == "cuda":
        # On its way while the next line waits for what comes behind it.
        rounded = torch.empty_like(rounded, device="cpu", pin_memory=True).copy_(rounded, non_blocking=True)
    least, largest = ends.tolist()
    most = torch.finfo(torch.float16).max
    if not (-most <= least and largest <= most):  # false for nan, too
        raise WeightsError(
            f"{stream}.weights",
            fault="give values that are not finite or too large for float16",
            remedy=f"set {stream}.precision = fp32, or use other weights",
        )
    embedding_BR: Float16[np.ndarray, "B *rest"] = rounded.cpu().numpy()
    return embedding_BR
