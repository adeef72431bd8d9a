"""Reading the arrays of a published group, in the certainty that nothing is missing.

Zarr reads a deleted chunk as zeros without a word; so every file that the marker lists must be there, at its
length. What is inside the chunks is checked by their own checksums as they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from vaprompt.store.layout import damaged


def read_array(group: Path, name: str, marker: Mapping[str, Any]) -> np.ndarray:
    """Return one array of a published group, whole.

    Args:
        group: the group's folder.
        name: the array's name.
        marker: the group's attributes.

    Raises:
        StoreError: a chunk is missing, cut short or changed, or the metadata is damaged.
    """
    listed = {file: facts for file, facts in marker.get("files", {}).items() if file.startswith(f"{name}/")}
    metadata = group / name / "zarr.json"
    if f"{name}/zarr.json" not in listed:
        raise damaged(metadata, f"has no array '{name}' in its marker", group)
    for file, facts in listed.items():
        path = group / file
        if not path.is_file():
            raise damaged(path, "is missing", group)
        if path.stat().st_size != facts["bytes"]:
            raise damaged(path, f"has {path.stat().st_size} bytes instead of {facts['bytes']}", group)
    if hashlib.sha256(metadata.read_bytes()).hexdigest() != listed[f"{name}/zarr.json"]["sha256"]:
        raise damaged(metadata, "is not what was written", group)
    try:
        array = zarr.open_array(str(group / name), mode="r")
        if array.nchunks != len(listed) - 1:
            raise damaged(group / name, f"has {array.nchunks} chunks, its marker lists {len(listed) - 1}", group)
        return np.asarray(array[...])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise damaged(group / name, f"cannot be read ({error})", group) from None
