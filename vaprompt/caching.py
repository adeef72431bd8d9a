"""What can be made again, kept in a folder of the user's: its place, and short facts that take seconds to find out.

A fact is kept under all that it depends on, so that it never has to be taken back; anything there may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaprompt.errors import TargetError
from vaprompt.files import parsed_json, write_json

VARIABLE = "VAPROMPT_CACHE"


def cache_folder() -> Path:
    """Return where copies are kept: VAPROMPT_CACHE, or `vaprompt` in XDG_CACHE_HOME, which is ~/.cache by default."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaprompt"


def remembered(about: Mapping[str, Any], find_out: Callable[[], Any]) -> Any:
    """Return what `find_out` returns, or did when it was last called for the same thing.

    Args:
        about: all that the answer depends on, as plain JSON.
        find_out: returns plain JSON; what it raises is passed on, and nothing is kept.
    """
    key = json.dumps(about, sort_keys=True)
    file = cache_folder() / "facts" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = parsed_json(file.read_bytes())
        if kept["about"] == about:
            return kept["fact"]
    fact = find_out()
    with suppress(TargetError):  # a folder that cannot be written only costs time
        write_json(file, {"about": about, "fact": fact})
    return fact
