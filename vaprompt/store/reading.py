"""Reading the arrays of a published group, in the certainty that nothing is missing, changed or larger than it says.

Arrays are decoded here and not by a Zarr library: only this format's own two codecs (bytes, crc32c) and number types
are accepted, every size is checked against the files that are there before memory is asked for, and the same code reads
a folder, a zip file and a remote store. A test reads the same stores with zarr-python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import UInt8

from vaprompt.errors import StoreError
from vaprompt.store.layout import damaged, joined
from vaprompt.store.storage import Storage

CHECKSUM_BYTES = 4
"""Each chunk is followed by its CRC-32C, little-endian."""
TYPES = ("float16", "float32", "float64", "int32", "int64", "bool")
MOST_CHUNK = 2**30
"""Bytes of the largest chunk that is read; ours have one MiB, or one row where that is more."""
MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class ArrayForm:
    """What an array's metadata says of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int
    """Rows of a chunk; the last chunk is padded to as many."""

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.shape[0] // self.rows)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of each chunk without its checksum."""
        return self.rows * prod(self.shape[1:]) * self.dtype.itemsize

    def key(self, chunk: int) -> str:
        """Return a chunk's key below the array."""
        return joined("c", str(chunk), *("0" for _ in self.shape[1:]))


def read_array(storage: Storage, group: str, name: str, marker: Mapping[str, Any]) -> np.ndarray:
    """Return one array of a published group, whole.

    Args:
        storage: the store's files.
        group: the group's key.
        name: the array's name.
        marker: the group's attributes.

    Raises:
        StoreError: a chunk is missing, cut short or changed, or the metadata is damaged or of another format.
    """
    form = read_form(storage, group, name, marker)
    values = np.empty(form.shape, dtype=form.dtype)
    done = 0
    for piece in read_pieces(storage, group, name, marker, form):
        values[done : done + len(piece)] = piece
        done += len(piece)
    return values


def read_pieces(
    storage: Storage, group: str, name: str, marker: Mapping[str, Any], form: ArrayForm
) -> Iterator[np.ndarray]:
    """Yield one array of a published group, some rows at a time; each piece can only be read.

    Args:
        storage: the store's files.
        group: the group's key.
        name: the array's name.
        marker: the group's attributes.
        form: what `read_form` returned for it.

    Raises:
        StoreError: a chunk is missing, cut short or changed.
    """
    for chunk in range(form.chunks):
        key = joined(name, form.key(chunk))
        content = read_listed(storage, group, key, marker, most=form.chunk_bytes + CHECKSUM_BYTES)
        body = np.frombuffer(content, np.uint8, len(content) - CHECKSUM_BYTES)
        if checksum(body) != content[-CHECKSUM_BYTES:]:
            raise _damaged(storage, group, key, "does not have its checksum")
        rows = min(form.rows, form.shape[0] - chunk * form.rows)
        yield body.view(form.dtype).reshape(form.rows, *form.shape[1:])[:rows]


def checksum(body: bytes | UInt8[np.ndarray, "_"]) -> bytes:
    """Return the checksum that follows a chunk, of its content as bytes or as an array that cannot be written to."""
    value: int = google_crc32c.value(body)
    return value.to_bytes(CHECKSUM_BYTES, "little")


def read_form(storage: Storage, group: str, name: str, marker: Mapping[str, Any]) -> ArrayForm:
    """Return the form of an array, after its chunks were found to be there with the sizes that it implies.

    Raises:
        StoreError: the metadata is damaged or of another format, or does not fit the files in the marker.
    """
    key = joined(name, "zarr.json")
    if not isinstance(marker.get("files"), dict) or key not in marker["files"]:
        raise _damaged(storage, group, key, f"has no array '{name}' in its marker")
    content = read_listed(storage, group, key, marker)
    if hashlib.sha256(content).hexdigest() != marker["files"][key].get("sha256"):
        raise _damaged(storage, group, key, "is not what was written")
    try:
        form = parse_form(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(storage, group, key, f"is not this format's ({error})") from None
    listed = {file for file in marker["files"] if file.startswith(f"{name}/")} - {key}
    expected = {joined(name, form.key(chunk)) for chunk in range(min(form.chunks, len(listed) + 1))}
    if form.chunks != len(listed) or expected != listed:
        raise _damaged(storage, group, name, f"has {form.chunks} chunks, its marker lists {len(listed)}")
    for file in sorted(listed):
        if listed_bytes(storage, group, file, marker) != form.chunk_bytes + CHECKSUM_BYTES:
            raise _damaged(storage, group, file, f"has not the {form.chunk_bytes + CHECKSUM_BYTES} bytes of a chunk")
    return form


def listed_bytes(storage: Storage, group: str, file: str, marker: Mapping[str, Any]) -> int:
    """Return a file's size, which is that in the marker.

    Raises:
        StoreError: it is missing, or has another size.
    """
    facts = marker["files"].get(file)
    size = storage.size(joined(group, file))
    if size is None:
        raise _damaged(storage, group, file, "is missing")
    if not isinstance(facts, dict) or size != facts.get("bytes"):
        wanted = facts.get("bytes") if isinstance(facts, dict) else None
        raise _damaged(storage, group, file, f"has {size} bytes instead of {wanted}")
    return size


def read_listed(storage: Storage, group: str, file: str, marker: Mapping[str, Any], *, most: int = MOST_CHUNK) -> bytes:
    """Return the content of a file that a marker lists, at the length that it says.

    Raises:
        StoreError: it is missing, or has another length.
    """
    size = listed_bytes(storage, group, file, marker)
    try:
        content = storage.read(joined(group, file), most)
    except FileNotFoundError:
        raise _damaged(storage, group, file, "is missing") from None
    if len(content) != size:
        raise _damaged(storage, group, file, f"has {len(content)} bytes instead of {size}")
    return content


def parse_form(content: bytes) -> ArrayForm:
    """Return the form in an array's `zarr.json`.

    Raises:
        ValueError: it is not JSON, or anything in it is not what this format allows.
    """
    found = json.loads(content)
    for path, wanted in _FIXED.items():
        if _within(found, path) != wanted:
            raise ValueError(f"{path} is {str(_within(found, path))[:40]}, not {wanted}")
    shape, grid = _within(found, "shape"), _within(found, "chunk_grid/configuration/chunk_shape")
    for sizes, least in ((shape, 0), (grid, 1)):
        whole = isinstance(sizes, list) and 1 <= len(sizes) <= MOST_DIMENSIONS
        if not whole or not all(type(size) is int and least <= size < 2**40 for size in sizes):
            raise ValueError(f"{str(sizes)[:40]} is no shape")
    if not all(shape[1:]):
        raise ValueError(f"{shape} has rows of no values")
    if len(grid) != len(shape) or grid[1:] != shape[1:]:
        raise ValueError(f"chunks of {grid} are not whole rows of {shape}")
    if found.get("data_type") not in TYPES:
        raise ValueError(f"{str(found.get('data_type'))[:40]} is none of {', '.join(TYPES)}")
    dtype = np.dtype(found["data_type"])
    codecs = [dict(_BYTES) if dtype.itemsize == 1 else {**_BYTES, "configuration": {"endian": "little"}}, _CHECKSUM]
    if found.get("codecs") != codecs:
        raise ValueError("the codecs are not bytes (little-endian) and crc32c")
    form = ArrayForm(tuple(shape), dtype, grid[0])
    if form.chunk_bytes > MOST_CHUNK:
        raise ValueError(f"a chunk of {form.chunk_bytes} bytes is larger than {MOST_CHUNK}")
    return form


_BYTES: Mapping[str, Any] = {"name": "bytes"}
_CHECKSUM: Mapping[str, Any] = {"name": "crc32c"}
_FIXED: Mapping[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "chunk_grid/name": "regular",
    "chunk_key_encoding/name": "default",
    "chunk_key_encoding/configuration/separator": "/",
}


def _within(content: Any, path: str) -> Any:
    """Return what nested mappings hold at a path; None where it does not exist."""
    for part in path.split("/"):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def arrays_of(marker: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the arrays that a marker lists."""
    for file in sorted(marker.get("files", {})):
        name, _, rest = file.partition("/")
        if rest == "zarr.json":
            yield name


def _damaged(storage: Storage, group: str, key: str, fault: str) -> StoreError:
    return damaged(storage, joined(group, key), fault, group)
