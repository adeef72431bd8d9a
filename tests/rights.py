"""Being somebody without rights for a while, also where the tests are run by somebody who has all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that everybody may look into; pytest's own are their owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="vaprompt-rights-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for place, _, _ in os.walk(folder):
            for below in Path(place).iterdir():
                if below.is_dir() and not below.is_symlink():
                    below.chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def without_rights() -> Iterator[None]:
    """Let this process have no rights beyond those of everybody; files of its own are still its own."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
