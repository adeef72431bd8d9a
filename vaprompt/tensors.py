"""Tensors written to a safetensors file, with the errors and the rights of any other file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file as save_arrays

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(
    target: Path, tensors: Mapping[str, Tensor] | Mapping[str, np.ndarray], facts: Mapping[str, str] | None = None
) -> None:
    """Write tensors, or arrays of numpy's, by name and a few facts; they lie on the processor, each without gaps.

    Raises:
        OSError: it cannot be written, as when the disk is full.
    """
    arrays = {name: array for name, array in tensors.items() if isinstance(array, np.ndarray)}
    others = {name: tensor for name, tensor in tensors.items() if not isinstance(tensor, np.ndarray)}
    metadata = None if facts is None else dict(facts)
    # The library puts a file of its own making in the place, which nobody else may read whatever the umask allows.
    target.touch()
    mode = target.stat().st_mode & 0o777
    try:
        if others:
            from safetensors.torch import save_file  # torch takes seconds to import

            save_file(others, target, metadata=metadata)
        else:
            save_arrays(arrays, target, metadata=metadata)
    except SafetensorError as error:
        raise _of_the_system(error) from None
    target.chmod(mode)


def unreadable(file: Path) -> str | None:
    """Say why a file that is there cannot be read, which the library takes for one that is missing; None: it can."""
    try:
        with file.open("rb"):
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _of_the_system(error: SafetensorError) -> OSError:
    """Return the error of the system that the library's names at its end."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(str(error)) if number is None else OSError(int(number[1]), os.strerror(int(number[1])))
