"""What two stores have in common and what not, by their markers: no feature is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt.store.attributes import MADE_AS, MADE_BY
from vaprompt.store.fingerprint import differing
from vaprompt.store.layout import FAILED, TEXT, read_attributes
from vaprompt.store.reader import read_text
from vaprompt.store.sharing.contents import Listed, open_contents
from vaprompt.store.storage import Storage
from vaprompt.store.streams import kind_of

PROVENANCE = ("source", "notes", MADE_BY, MADE_AS)
"""What a marker says of where its content came from; two copies of one video may differ in it. Of fingerprints, the
streams' own are compared: a marker of an older version has no digest of it."""
PROMPT_TOLERANCE = 1e-3
"""Largest difference of two machines' embeddings of one prompt, as a part of the largest value."""


def differing_parts(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Return in what two markers' contents differ: names of arrays and of attributes such as `split`, sorted."""
    mine, yours = left.get("files", {}), right.get("files", {})
    arrays = {name.partition("/")[0] for name in mine.keys() | yours.keys() if mine.get(name) != yours.get(name)}
    keys = (left.keys() | right.keys()) - {"files", *PROVENANCE}
    return sorted(arrays | {key for key in keys if left.get(key) != right.get(key)})


def same_prompt(left_D: Float32[np.ndarray, "D"], right_D: Float32[np.ndarray, "E"]) -> bool:
    """Say whether two embeddings of one prompt are the same but for the arithmetic of the machines."""
    if left_D.shape != right_D.shape:
        return False
    largest = float(np.abs(left_D).max(initial=0))
    return bool(np.all(np.abs(left_D - right_D) <= PROMPT_TOLERANCE * largest))


def streams_of(groups: list[Listed]) -> dict[str, dict[str, Listed]]:
    """Return the groups of videos, by stream and video; failures are none."""
    found: dict[str, dict[str, Listed]] = {}
    for group in groups:
        if kind_of(group.stream) in (FAILED, TEXT):
            continue
        videos = found.setdefault(group.stream, {})
        if group.video is not None:
            videos[group.video] = group
    return found


def compare(left: Path | str, right: Path | str) -> dict[str, Any]:
    """Return in what two stores differ, as plain JSON; `equal` says whether in nothing.

    Where the features came from, the recipe's other fields, the versions of the writer and failures are not compared.

    Raises:
        StoreError: one of them is no store, or a marker is damaged.
    """
    (one, one_groups), (two, two_groups) = open_contents(left), open_contents(right)
    mine, yours = streams_of(one_groups), streams_of(two_groups)
    shared = sorted(mine.keys() & yours.keys())
    my_videos, your_videos = ({video for videos in side.values() for video in videos} for side in (mine, yours))
    prints = {stream: _pairs(one.fingerprint(stream), two.fingerprint(stream)) for stream in shared}
    named = sorted({group.key for group in (*one_groups, *two_groups) if kind_of(group.key) == TEXT} - {TEXT})
    found: dict[str, Any] = {
        "dataset": _pairs(one.dataset, two.dataset),
        "streams": _only(mine, yours),
        "fingerprints": {stream: fields for stream, fields in prints.items() if fields},
        "videos": _only(my_videos, your_videos),
        "content": [],
        "prompts": _prompts(one.storage, two.storage, TEXT),
        "named_prompts": {key.partition(".")[2]: _prompts(one.storage, two.storage, key) for key in named},
    }
    for stream in shared:
        for video in sorted((mine[stream].keys() | yours[stream].keys()) & my_videos & your_videos):
            parts = _parts(mine[stream].get(video), yours[stream].get(video))
            if parts:
                found["content"].append({"stream": stream, "video": video, "differs": parts})
    return {"a": str(one.location), "b": str(two.location), "equal": not any(map(_told, found.values()))} | found


def _parts(left: Listed | None, right: Listed | None) -> list[str]:
    if left is None or right is None:
        return ["only in a" if right is None else "only in b"]
    return differing_parts(left.group().attributes, right.group().attributes)


def _prompts(one: Storage, two: Storage, key: str) -> dict[str, Any]:
    mine, yours = read_text(one, key), read_text(two, key)
    found: dict[str, Any] = {**_only(mine, yours)}
    found["differ"] = sorted(
        prompt for prompt in mine.keys() & yours.keys() if not same_prompt(mine[prompt], yours[prompt])
    )
    both = mine and yours
    return found | {"fingerprint": _pairs(_fingerprint(one, key), _fingerprint(two, key)) if both else {}}


def _fingerprint(storage: Storage, key: str) -> Mapping[str, Any]:
    return dict((read_attributes(storage, key) or {}).get("fingerprint", {}))


def _pairs(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: list(values) for key, values in differing(left, right).items()}


def _only(left: Iterable[str], right: Iterable[str]) -> dict[str, list[str]]:
    return {"only_a": sorted(set(left) - set(right)), "only_b": sorted(set(right) - set(left))}


def _told(found: Any) -> bool:
    """Say whether anything is in a part of the result."""
    return any(map(_told, found.values())) if isinstance(found, Mapping) else bool(found)
