"""What the arrays of each stream must be: which there are, of what type, and how their values hang together.

Axes: N encoded frames, W audio windows, F annotated frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vaprompt.store.attributes import COUNTS, TEXT, kind_of
from vaprompt.store.reading import ArrayForm

ARRAYS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "image": {"embedding": ("float16", 2), "frame": ("int32", 1), "time": ("float64", 1)},
    "audio": {"embedding": ("float16", 3), "end": ("float64", 1)},
    "labels": {"value": ("float32", 2), "valid": ("bool", 1), "time": ("float64", 1)},
    TEXT: {"embedding": ("float32", 2)},
}
"""Kind of stream -> array -> type and number of dimensions."""
ASCENDING = {"image": ("frame", "time"), "audio": ("end",), "labels": ("time",)}

EMBEDDING = "embedding"
"""The one array that is large."""
MOST_SECONDS = 10 * 86400.0
"""The longest time in a store; no file that is read lasts longer than a day."""


def form_faults(
    stream: str, marker: Mapping[str, Any], forms: Mapping[str, ArrayForm], fingerprint: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield array and fault where the form of a group's arrays is not what the stream, or its fingerprint, says."""
    expected = ARRAYS.get(kind_of(stream))
    if expected is None:
        return
    for name in sorted(expected.keys() - forms.keys()):
        yield name, "is missing"
    for name, (dtype, dimensions) in expected.items():
        if name in forms and (forms[name].dtype.name, len(forms[name].shape)) != (dtype, dimensions):
            found = f"{forms[name].dtype.name} in {len(forms[name].shape)} dimensions"
            yield name, f"is {found} and not {dtype} in {dimensions}"
    rows = len(marker["prompts"]) if kind_of(stream) == TEXT else marker["counts"][COUNTS[kind_of(stream)][0]]
    for name, form in forms.items():
        if name in expected and form.shape[0] != rows:
            yield name, f"has {form.shape[0]} rows, and its marker says {rows}"
    steps = fingerprint.get("steps")
    if kind_of(stream) == "audio" and type(steps) is int and EMBEDDING in forms:
        shape = forms[EMBEDDING].shape
        if len(shape) > 1 and shape[1] != steps:
            yield EMBEDDING, f"has {shape[1]} steps a window, and the stream's fingerprint says {steps}"


def usual_widths(widths: Mapping[tuple[str, str], tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shape of one embedding in each stream, from those of its videos: the one that most of them have."""
    counts: dict[str, Counter[tuple[int, ...]]] = {}
    for (stream, _), width in sorted(widths.items()):
        counts.setdefault(stream, Counter())[width] += 1
    return {stream: count.most_common(1)[0][0] for stream, count in counts.items()}


def content_faults(
    stream: str, marker: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str]]:
    """Yield array and fault where values are not finite, not in order, or out of range.

    Args:
        stream: the stream.
        marker: the group's attributes.
        arrays: its arrays, or some of them; a large embedding need not be among them (see `finite_halves`).
    """
    counts = marker.get("counts", {})
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            yield name, "holds values that are not finite"
    for name in arrays.keys() & {"time", "end"}:
        if bool(np.any(np.abs(arrays[name]) > MOST_SECONDS)):
            yield name, f"holds times beyond {MOST_SECONDS:g} s"
    for name in arrays.keys() & ASCENDING.get(kind_of(stream), ()):
        # Two frames may share a time stamp; no two rows are of one frame or window.
        step = np.diff(arrays[name])
        if step.size and not bool(np.all(step >= 0 if name == "time" else step > 0)):
            yield name, "is not ascending"
    if kind_of(stream) == "image" and len(arrays.get("frame", ())):
        first, last = int(arrays["frame"][0]), int(arrays["frame"][-1])
        frames = counts.get("frames", last)
        if first < 1 or last > frames:
            yield "frame", f"counts from {first} to {last}, but the video has the frames 1 to {frames}"
    if kind_of(stream) == "labels" and {"valid", "value"} <= arrays.keys():
        valid_F, value_F2 = arrays["valid"], arrays["value"]
        valid = int(valid_F.sum())
        if valid != counts.get("valid", valid):
            yield "valid", f"counts {valid} frames, and its marker {counts['valid']}"
        if bool(np.any(np.abs(value_F2[valid_F]) > 1)):
            yield "value", "leaves [-1, 1] in frames that are valid"


def finite_halves(content: bytes | memoryview) -> bool:
    """Say whether the content of an embedding's chunk, half floats, is finite throughout."""
    if len(content) % 2:
        return False
    # What is not finite has all ones in its exponent, and so lies above all else: of either sign, as whole numbers. Two
    # passes without a copy, many times as fast as numpy's own test of half floats.
    bits = np.frombuffer(content, np.uint16)
    return bool(bits.max(initial=0) < 0xFC00 and bits.view(np.int16).max(initial=0) < 0x7C00)
