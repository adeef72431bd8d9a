"""How a store reads for a person. Apart from `tell`, whose imports take seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaprompt.cli.output import print_lines, print_table, size

DIGEST = "sha256:"


def print_store(store: str, content: Mapping[str, Any]) -> None:
    """Print what `FeatureStore.info` found in `store`."""
    dataset = content["dataset"]
    described = ", ".join(f"{key} {dataset[key]}" for key in ("name", "layout", "faces") if key in dataset)
    print_lines([f"store: {store}, format {content['format']}, {size(content['bytes'])}", f"data set: {described}"])
    print_table(
        ("split", "videos", "frames", "valid", "hours"),
        [
            (split, counts["videos"], counts["frames"], counts["valid"], f"{counts['hours']:.2f}")
            for split, counts in content["splits"].items()
        ],
    )
    print_table(
        ("stream", "videos", "size", "made by"),
        [
            (stream, facts["videos"], size(facts["bytes"]), _made_by(facts["fingerprint"]))
            for stream, facts in content["streams"].items()
        ],
    )
    print_lines([f"prompts: {content['prompts']}"])
    versions = ", ".join(f"{name} {version}" for name, version in content["made_by"].items())
    print_lines([f"written by: {versions}"] if versions else [])
    print_lines(f"failed: {video}: {reason}" for video, reason in content["failed"].items())


def _made_by(fingerprint: Mapping[str, Any]) -> str:
    """Return a fingerprint's fields in one text; digests are cut to what tells them apart."""
    shown = []
    for key, value in sorted(fingerprint.items()):
        if isinstance(value, Mapping):
            shown.append(f"{key} ({_made_by(value)})")
        else:
            text = str(value)
            shown.append(f"{key} {text[: len(DIGEST) + 12]}" if text.startswith(DIGEST) else f"{key} {text}")
    return ", ".join(shown)
