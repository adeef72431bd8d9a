"""Lists what an HDF5 file holds and where, without reading any of it: run as a script, in a process of its own.

libhdf5 may crash, loop or ask for all memory when a file is damaged, or made to harm. So it meets a file from
elsewhere here only, with limits; this process prints one JSON line for each group and array, and its caller reads the
bytes at the places that it names. It starts as quickly as it does because it imports nothing of vaprompt.

    python hdf5_listing.py FILE SECONDS MEMORY
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]*")
METADATA = b"zarr.json"
MOST_ARRAY_METADATA = 2**16
DEPTH = 2
"""Groups above arrays: the stream and the video."""


class RefusedError(Exception):
    """The file holds what this format does not."""


def listing(path: str) -> Iterator[dict[str, Any]]:
    """Yield what is in the file; see `_group` and `_array`."""
    from h5py import h5f, h5g, h5o, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_file_locking(False, True)
    file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, fapl=access)
    root = h5g.open(file, b"/")
    yield from _group(root, "", {h5o.get_info(root).addr}, Path(path).stat().st_size)


def _group(group: Any, key: str, seen: set[int], size: int) -> Iterator[dict[str, Any]]:
    from h5py import h5d, h5g, h5l, h5o

    names: list[bytes] = []
    group.links.iterate(names.append)
    for name in sorted(names):
        if not NAME.fullmatch(name):
            raise RefusedError(f"holds the name {name[:80]!r}, which no store has")
        below = f"{key}/{name.decode()}".lstrip("/")
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            raise RefusedError(f"'{below}' is a soft or external link")
        found = h5o.get_info(group, name)
        address = found.addr
        if address in seen:
            raise RefusedError(f"'{below}' is linked twice")
        seen.add(address)
        if found.type == h5o.TYPE_GROUP:
            if below.count("/") >= DEPTH:
                raise RefusedError(f"'{below}' is a group where an array belongs")
            yield from _group(h5g.open(group, name), below, seen, size)
        elif found.type == h5o.TYPE_DATASET:
            dataset = h5d.open(group, name)
            yield _metadata(dataset, key) if name == METADATA else _array(dataset, below, size)
        else:
            raise RefusedError(f"'{below}' is neither group nor array")


def _metadata(dataset: Any, key: str) -> dict[str, Any]:
    """Return a group's key, and place and length of its metadata in the file."""
    from h5py import h5d, h5t

    where = f"{key}/zarr.json".lstrip("/")
    created = dataset.get_create_plist()
    _require_plain(created, where)
    contiguous = created.get_layout() == h5d.CONTIGUOUS
    if not contiguous or dataset.rank != 1 or not dataset.get_type().equal(h5t.STD_U8LE):
        raise RefusedError(f"'{where}' is no contiguous sequence of bytes")
    return {"group": key, "at": [dataset.get_offset(), dataset.shape[0]]}


def _array(dataset: Any, key: str, size: int) -> dict[str, Any]:
    """Return an array's key, form and metadata, and first row, place and length of each chunk."""
    from h5py import h5a, h5d, h5t

    created = dataset.get_create_plist()
    _require_plain(created, key)
    if created.get_layout() != h5d.CHUNKED:
        raise RefusedError(f"'{key}' is not chunked")
    if not h5a.exists(dataset, METADATA):
        raise RefusedError(f"'{key}' has no attribute zarr.json")
    attribute = h5a.open(dataset, METADATA)
    text = len(attribute.shape) == 1 and attribute.get_type().equal(h5t.STD_U8LE)
    if not text or attribute.get_storage_size() > MOST_ARRAY_METADATA:
        raise RefusedError(f"the attribute zarr.json of '{key}' is no short sequence of bytes")
    import numpy as np

    metadata = np.empty(attribute.shape, np.uint8)
    attribute.read(metadata)
    chunks: list[tuple[int, int, int]] = []

    def add(chunk: Any) -> bool | None:
        if chunk.filter_mask or any(chunk.chunk_offset[1:]) or chunk.size < 1:
            return True
        chunks.append((chunk.chunk_offset[0], chunk.byte_offset, chunk.size))
        return len(chunks) > size or None

    if dataset.chunk_iter(add):
        raise RefusedError(f"'{key}' has chunks as no store has them")
    return {
        "array": key,
        "shape": dataset.shape,
        "rows": created.get_chunk(),
        "type": _type(dataset.get_type()),
        "metadata": bytes(metadata).decode("utf-8"),
        "chunks": sorted(chunks),
    }


def _require_plain(created: Any, key: str) -> None:
    from h5py import h5d

    if created.get_layout() == h5d.VIRTUAL:
        raise RefusedError(f"'{key}' is virtual: it would read other files")
    if created.get_layout() == h5d.CONTIGUOUS and created.get_external_count():
        raise RefusedError(f"'{key}' lies in another file")
    if created.get_nfilters():
        raise RefusedError(f"'{key}' is filtered or compressed")


def _type(found: Any) -> str:
    """Return a type's name in numpy; only those are known that a store has."""
    import numpy as np
    from h5py import h5t

    for name in ("float16", "float32", "float64", "int32", "int64", "bool"):
        if found.equal(h5t.py_create(np.dtype(name).newbyteorder("<"), logical=True)):
            return name
    raise RefusedError("holds an array that is neither of numbers nor of truth values, or big-endian")


def main(path: str, seconds: str, memory: str) -> None:
    """Print the listing, or the fault, within the limits."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    try:
        for found in listing(path):
            print(json.dumps(found), flush=True)
        print(json.dumps({"end": True}), flush=True)
    except RefusedError as refused:
        print(json.dumps({"fault": str(refused)}), flush=True)
    except Exception as error:  # whatever libhdf5 and h5py make of rubbish
        print(json.dumps({"fault": f"cannot be read as HDF5 ({type(error).__name__}: {str(error)[:200]})"}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
