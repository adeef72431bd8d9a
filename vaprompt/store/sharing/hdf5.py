"""A store as one HDF5 file: the same groups and arrays under the same names, chunk by chunk (docs/store-format.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vaprompt.errors import StoreError
from vaprompt.files import published, unwritable
from vaprompt.progress import SILENT, Progress
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.groups import Group
from vaprompt.store.layout import GROUP_FILE, damaged, joined
from vaprompt.store.reading import CHECKSUM_BYTES, arrays_of, checksum, read_form
from vaprompt.store.sharing.archive import is_there, require_whole
from vaprompt.store.sharing.contents import contents, open_contents, root_of
from vaprompt.store.sharing.folder import MEGABYTE, write_store
from vaprompt.store.sharing.hdf5_storage import Hdf5


def export(location: Path | str, target: Path, *, progress: Progress = SILENT) -> None:
    """Write a store into one HDF5 file; nothing is done where it is there already.

    Raises:
        StoreError: there is no store, or a file in it is missing or not what was written.
        TargetError: something else is at `target`, or it cannot be written.
    """
    store, groups = open_contents(location)
    root = root_of(store)
    if is_there(target, Hdf5, root, groups):
        return
    with (
        published(target) as aside,
        _created(aside, target) as file,
        progress.task("exporting", sum(group.size for group in groups) / MEGABYTE, "MB") as task,
    ):
        for group in groups:
            _write(file, group.group())
            task.advance(group.size / MEGABYTE, group.key)
        _write_metadata(file, root.metadata)


def import_(file: Path, target: Path, *, progress: Progress = SILENT) -> None:
    """Write the store in an HDF5 file into a folder, as it was exported; a killed call is finished by the next.

    Raises:
        StoreError: it is no exported store, is damaged, or holds anything that `export` does not write.
        TargetError: something else is at `target`, or it cannot be written.
    """
    store = FeatureStore.from_storage(Hdf5(file))
    groups = contents(store.storage)
    require_whole(store.storage, groups, file)
    write_store(target, root_of(store), groups, verb="importing", progress=progress)


@contextmanager
def _created(aside: Path, target: Path) -> Iterator[h5py.File]:
    """Yield a new file that others may read while it is written (SWMR); what h5py raises becomes one line.

    Raises:
        TargetError: it cannot be written.
    """
    try:
        # Version 1.10 of the format is the first with SWMR; nothing later is needed, so older readers can read it.
        with h5py.File(aside, "w", libver=("v110", "v110"), locking=False) as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise unwritable(target, _system_error(error)) from None


def _write(file: h5py.File, group: Group) -> None:
    made = file.require_group(group.key)
    arrays = {name: read_form(group.storage, group.key, name, group.attributes) for name in arrays_of(group.attributes)}
    opened: dict[str, h5py.Dataset] = {}
    for name, form in arrays.items():
        opened[name] = made.create_dataset(
            name, form.shape, form.dtype, chunks=(form.rows, *form.shape[1:]), maxshape=(None, *form.shape[1:])
        )
    chunks = {
        joined(name, form.key(chunk)): (name, chunk) for name, form in arrays.items() for chunk in range(form.chunks)
    }
    for key, content in group.contents():
        if key in chunks:
            name, chunk = chunks[key]
            body = content[:-CHECKSUM_BYTES]
            if checksum(body) != content[-CHECKSUM_BYTES:]:
                raise _damaged(group, key, "does not have its checksum")
            # As they are: the padding of the last chunk, too, is part of the digest.
            offset = (chunk * arrays[name].rows, *(0 for _ in arrays[name].shape[1:]))
            opened[name].id.write_direct_chunk(offset, body)
        else:
            name = key.partition("/")[0]
            if name not in opened:
                raise _damaged(group, key, "belongs to no array")
            opened[name].attrs.create(GROUP_FILE, np.frombuffer(content, np.uint8))
    _write_metadata(made, group.metadata)


def _write_metadata(group: h5py.Group, content: bytes) -> None:
    group.create_dataset(GROUP_FILE, data=np.frombuffer(content, np.uint8))


def _damaged(group: Group, key: str, fault: str) -> StoreError:
    return damaged(group.storage, joined(group.key, key), fault, group.key)


def _system_error(error: OSError | RuntimeError) -> OSError:
    """Return what the system said, which libhdf5 tells amid much else."""
    number = re.search(r"errno = (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))
