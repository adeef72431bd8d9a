"""Comparing what made two things, field by field, so that a refusal names the fields and not just "stale"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vaprompt.errors import FingerprintError

Fingerprint = Mapping[str, Any]
"""Whatever determines a stream's values, as plain JSON: strings, numbers, lists, nested mappings."""


def differences(stored: Fingerprint, asked: Fingerprint) -> list[str]:
    """Return one text for each field in which two fingerprints differ, nested fields with dots, in order of names."""
    left, right = dict(_flat(stored)), dict(_flat(asked))
    return [
        f"{key}: {left.get(key, 'nothing')} here, {right.get(key, 'nothing')} asked for"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def require_equal(stored: Fingerprint, asked: Fingerprint, *, where: Path | str, remedy: str) -> None:
    """Do nothing if the two fingerprints are equal.

    Raises:
        FingerprintError: they differ; the fault lists every differing field with both values.
    """
    found = differences(stored, asked)
    if found:
        raise FingerprintError(where, fault=f"was made differently ({'; '.join(found)})", remedy=remedy)


def _flat(fingerprint: Fingerprint, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fingerprint.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            # JSON knows no tuples: what was written as one comes back as a list.
            yield prefix + key, list(value) if isinstance(value, tuple) else value
