"""How a store reads for a person. Apart from `tell`, whose imports take seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vaprompt.cli.output import print_lines, print_table, size
from vaprompt.store.attributes import kind_of

if TYPE_CHECKING:
    from vaprompt.store.faults import Verification
    from vaprompt.store.repair import Repaired

DIGEST = "sha256:"


def print_store(store: str, content: Mapping[str, Any]) -> None:
    """Print what `FeatureStore.info` found in `store`."""
    dataset = content["dataset"]
    seen = any(kind_of(stream) == "image" for stream in content["streams"])
    keys = ("name", "layout", "faces") if seen else ("name", "layout")
    described = ", ".join(f"{key} {dataset[key]}" for key in keys if key in dataset)
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


def print_verification(found: Verification, repaired: Repaired | None, *, deep: bool) -> None:
    """Print faults, one a line, what made what was looked at, and, where that was asked for, what became of them."""
    print_lines(
        "/".join(filter(None, (fault.stream, fault.video, fault.key))) + f": {fault.fault}" for fault in found.faults
    )
    how = "read and compared" if deep else "by names, sizes and metadata; --deep reads all"
    print_lines([f"{found.videos} videos, {size(found.bytes)} {how}: {len(found.faults) or 'no'} faults"])
    for maker in found.makers:
        versions = ", ".join(f"{name} {version}" for name, version in maker.made_by.items())
        print_lines([f"made by {versions} (videos' streams: {maker.groups})"])
    if repaired is not None and found.faults:
        gone, left = len(repaired.removed), len(repaired.left)
        print_lines([f"{gone} removed; run the same extract again to make them anew"] if gone else [])
        meanwhile = len(found.faults) - gone - left
        print_lines([f"{meanwhile} were made anew meanwhile, and are whole"] if meanwhile else [])
        print_lines([f"{left} cannot be mended so: restore a copy, or mend them by hand"] if left else [])


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
